//! The accept loop, TLS, and one log line a request.

use crate::App;
use crate::capacity::{Activity, Connections, pause};
use crate::connection::{Cord, Link, truncated};
use crate::faults::Sever;
use crate::request::{Peer, Source};
use crate::source::source_address;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::DATE;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

/// How long a peer may take over its TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long requests under way may take to end when the hub stops.
const STOP_TIME: Duration = Duration::from_secs(2);

/// Everything that a connection needs.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) app: Arc<App>,
    pub(crate) router: Router,
    pub(crate) tls: Option<TlsAcceptor>,
}

impl Server {
    /// Serves until the other end of `stop` says so or is dropped.
    pub(crate) async fn run(self, listener: TcpListener, mut stop: watch::Receiver<()>) {
        let mut connections = Connections::new(self.app.limits.connections);
        loop {
            let (tcp, peer) = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(cause) => {
                        tracing::warn!(%cause, "accept");
                        pause().await;
                        continue;
                    }
                },
                () = connections.one_ends() => continue,
                _ = stop.changed() => break,
            };
            tokio::select! {
                () = connections.make_room() => {}
                _ = stop.changed() => break,
            }
            connections
                .spawn(|activity| self.clone().connection(tcp, peer, activity, stop.clone()));
        }
        drop(listener);
        connections.end(STOP_TIME).await;
    }

    async fn connection(
        self,
        tcp: TcpStream,
        peer: SocketAddr,
        activity: Arc<Activity>,
        mut stop: watch::Receiver<()>,
    ) {
        let _ = tcp.set_nodelay(true);
        let (link, cord) = Link::new(tcp, activity);
        let Some(tls) = self.tls.clone() else {
            return self.http(link, &cord, Peer::of(peer), stop).await;
        };
        let handshake = tokio::select! {
            done = timeout(HANDSHAKE_TIME, tls.accept(link)) => done,
            _ = stop.changed() => return,
        };
        match handshake {
            Ok(Ok(stream)) => {
                let peer = Peer::of(peer).with(stream.get_ref().1.peer_certificates());
                self.http(stream, &cord, peer, stop).await;
            }
            Ok(Err(cause)) => tracing::info!(source = %peer.ip(), %cause, "TLS handshake"),
            Err(_) => tracing::info!(source = %peer.ip(), "TLS handshake took too long"),
        }
    }

    async fn http<S>(self, stream: S, cord: &Arc<Cord>, peer: Peer, mut stop: watch::Receiver<()>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service =
            service_fn(|request| self.clone().answer(request, peer.clone(), Arc::clone(cord)));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let mut stopping = false;
        loop {
            tokio::select! {
                ended = &mut connection => {
                    if let Err(cause) = ended {
                        tracing::debug!(source = %peer.address, %cause, "connection");
                    }
                    return;
                }
                // Dropping the connection drops the stream as it is.
                () = cord.severed() => return,
                _ = stop.changed(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    async fn answer(
        self,
        request: Request<Incoming>,
        peer: Peer,
        cord: Arc<Cord>,
    ) -> Result<Response<Body>, Infallible> {
        let started = Instant::now();
        let source = source_address(peer.address, request.headers(), &self.app.trusted_proxies);
        let method = request.method().clone();
        let path = without_tokens(request.uri().path());

        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Source(source));
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(Arc::clone(cord.activity()));
        let mut response = self.router.oneshot(request).await?;
        // Hyper would say the system's time, which a test cannot put forward.
        response
            .headers_mut()
            .insert(DATE, self.app.clock.http_date());

        let sever = response.extensions_mut().remove::<Sever>();
        let status = match sever {
            Some(Sever::Reset) => "reset".to_owned(),
            _ => response.status().as_u16().to_string(),
        };
        let took = started.elapsed();
        tracing::info!("{method} {path} {status} {source} {took:.1?}");
        match sever {
            None => Ok(response),
            Some(Sever::After(at)) => {
                let (parts, body) = response.into_parts();
                let whole = to_bytes(body, usize::MAX).await.unwrap_or_default();
                Ok(Response::from_parts(parts, truncated(&whole, at, cord)))
            }
            Some(Sever::Reset) => {
                cord.reset();
                std::future::pending().await
            }
        }
    }
}

/// The path for the log. Who put a token into a path by mistake does not find it there.
fn without_tokens(path: &str) -> String {
    if ["enrl_", "agt_", "adm_", "ms_"]
        .iter()
        .any(|prefix| path.contains(prefix))
    {
        "(a path with a token in it)".to_owned()
    } else {
        path.to_owned()
    }
}
