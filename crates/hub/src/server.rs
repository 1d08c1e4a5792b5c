//! The accept loop, TLS, and one log line for each request.

use crate::app::App;
use crate::capacity::{Activity, Connections, pause};
use crate::connection::{Control, Disconnect, Stream, truncated};
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

/// The time for a peer's TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// The time for requests under way to end when the hub stops.
const STOP_TIME: Duration = Duration::from_secs(2);

/// The state that every connection needs.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) app: Arc<App>,
    pub(crate) router: Router,
    pub(crate) tls: Option<TlsAcceptor>,
}

impl Server {
    /// Serves until the sender of `stop` sends or is dropped.
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
                () = connections.next_end() => continue,
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
        let (stream, control) = Stream::new(tcp, activity);
        let Some(tls) = self.tls.clone() else {
            return self.http(stream, &control, Peer::of(peer), stop).await;
        };
        let handshake = tokio::select! {
            done = timeout(HANDSHAKE_TIME, tls.accept(stream)) => done,
            _ = stop.changed() => return,
        };
        match handshake {
            Ok(Ok(stream)) => {
                let peer = Peer::of(peer).with(stream.get_ref().1.peer_certificates());
                self.http(stream, &control, peer, stop).await;
            }
            Ok(Err(cause)) => tracing::info!(source = %peer.ip(), %cause, "TLS handshake"),
            Err(_) => tracing::info!(source = %peer.ip(), "TLS handshake took too long"),
        }
    }

    async fn http<S>(
        self,
        stream: S,
        control: &Arc<Control>,
        peer: Peer,
        mut stop: watch::Receiver<()>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request| {
            self.clone()
                .respond(request, peer.clone(), Arc::clone(control))
        });
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
                () = control.closed() => return,
                _ = stop.changed(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    async fn respond(
        self,
        request: Request<Incoming>,
        peer: Peer,
        control: Arc<Control>,
    ) -> Result<Response<Body>, Infallible> {
        let started = Instant::now();
        let source = source_address(peer.address, request.headers(), &self.app.trusted_proxies);
        let method = request.method().clone();
        let path = without_tokens(request.uri().path());

        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Source(source));
        request.extensions_mut().insert(peer);
        request
            .extensions_mut()
            .insert(Arc::clone(control.activity()));
        let mut response = self.router.oneshot(request).await?;
        // hyper would send the system's time, which a test cannot advance.
        response
            .headers_mut()
            .insert(DATE, self.app.clock.http_date());

        let disconnect = response.extensions_mut().remove::<Disconnect>();
        let status = match disconnect {
            Some(Disconnect::Reset) => "reset".to_owned(),
            _ => response.status().as_u16().to_string(),
        };
        let took = started.elapsed();
        tracing::info!("{method} {path} {status} {source} {took:.1?}");
        match disconnect {
            None => Ok(response),
            Some(Disconnect::AfterBytes(at)) => {
                let (parts, body) = response.into_parts();
                let full = to_bytes(body, usize::MAX).await.unwrap_or_default();
                Ok(Response::from_parts(parts, truncated(&full, at, control)))
            }
            Some(Disconnect::Reset) => {
                control.reset();
                std::future::pending().await
            }
        }
    }
}

/// Returns the path for the log, without the tokens that somebody put there by mistake.
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
