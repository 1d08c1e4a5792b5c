//! The HTTP client, the only one in the agent: TLS, proxy, limits and time-outs.

use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderName,
    HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::{Method, Proxy, StatusCode, Url};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::headers::{coding, media_type};
use super::reply::quoted;
use super::resolver::ClientResolver;
use super::tls;
use super::transport_error::{
    Connection, chain, no_answer, not_our_protocol, transient, unresolved,
};
use crate::boxed::Boxed;
use crate::environment::Environment;
use crate::error::{Error, ErrorId, Result};
use crate::settings::Settings;
use crate::sourced::Sourced;
use crate::token::Secret;

pub use super::headers::retry_after;
pub use super::reply::Reply;
pub use super::send_error::SendError;
use super::timeouts::CONNECT;
pub use super::timeouts::EXCHANGE;
pub use super::tls::Proof;

/// Longest time without an acknowledgement on a connection of the service, before the connection counts as
/// dead.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);
/// Largest body of a response, in bytes.
const MAX_BODY: usize = 1024 * 1024;
const SIGNATURE: HeaderName = HeaderName::from_static("x-monsys-signature");

/// A request that is ready to be sent.
pub struct Request<'a> {
    /// HTTP method.
    pub method: Method,
    /// Address of the request.
    pub url: Url,
    /// Bearer token, for requests that need a token.
    pub bearer: Option<&'a Secret>,
    /// Value of `X-Monsys-Signature`, for requests that are signed.
    pub signature: Option<String>,
    /// JSON body, which may hold a secret.
    pub body: Zeroizing<Vec<u8>>,
}

/// Client of one hub.
pub struct Client {
    http: reqwest::Client,
    parts: Parts,
    /// The trust in the hub's certificate.
    trust: tls::Trust,
    /// The proxy that connections go through, if the settings name one.
    via: Option<Connection>,
}

/// The parts that all clients of one hub share.
struct Parts {
    resolver: ClientResolver,
    tls: rustls::ClientConfig,
    /// The URL of the proxy, and the setting that has it.
    proxy: Option<Sourced<Url>>,
}

impl Client {
    /// Builds a client by the settings.
    ///
    /// # Errors
    /// [`ErrorId::Unreadable`] or [`ErrorId::BadSetting`] for the CA file.
    pub fn new(settings: &Settings) -> Result<Self> {
        Self::of(settings, brief(), None, false)
    }

    /// Builds a client that presents a certificate of the host.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn proving(settings: &Settings, proof: Proof) -> Result<Self> {
        Self::of(settings, brief(), Some(proof), false)
    }

    /// Builds a client for the service. With `keeps_connection`, the next request uses the same connection.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn lasting(settings: &Settings, keeps_connection: bool) -> Result<Self> {
        let builder = reqwest::Client::builder()
            .pool_max_idle_per_host(usize::from(keeps_connection))
            // No timer watches an idle connection: the hub may close it at any time, and the next
            // request notices a dead connection.
            .pool_idle_timeout(None)
            .tcp_keepalive(None)
            .tcp_keepalive_interval(None)
            .tcp_keepalive_retries(None)
            .tcp_user_timeout(UNACKNOWLEDGED);
        Self::of(settings, builder, None, true)
    }

    fn of(
        settings: &Settings,
        builder: reqwest::ClientBuilder,
        proof: Option<Proof>,
        lasts: bool,
    ) -> Result<Self> {
        let parts = Parts {
            resolver: ClientResolver::default(),
            tls: tls::configuration(settings, proof, lasts)?,
            proxy: settings.proxy_in_use().map(|proxy| Sourced {
                value: proxy.value.url.clone(),
                source: proxy.source.clone(),
            }),
        };
        let http = parts.client(builder)?;
        let via = settings.proxy_in_use().map(|proxy| {
            let url = &proxy.value.url;
            let port = url.port_or_known_default().unwrap_or(80);
            Connection {
                named: format!(
                    "{} names the proxy {}:{port}",
                    proxy.source,
                    url.host_str().unwrap_or_default()
                ),
                has_user: !url.username().is_empty(),
            }
        });
        Ok(Self {
            http,
            parts,
            trust: tls::Trust::of(settings),
            via,
        })
    }

    /// Sends one request and reads the complete response, by `deadline` at the latest.
    ///
    /// # Errors
    /// [`SendError`], whose text holds no secret.
    pub fn send<'a>(
        &'a self,
        request: Request<'a>,
        environment: &'a Environment,
        deadline: Instant,
    ) -> Boxed<'a, std::result::Result<Reply, SendError>> {
        Box::pin(async move {
            let headers = headers(&request)
                .ok_or_else(|| not_our_protocol("the token cannot be sent in an HTTP header"))?;
            let request = self
                .http
                .request(request.method, request.url)
                .headers(headers)
                .body(request.body.to_vec());
            self.by(deadline, request, environment).await
        })
    }

    /// Sends a request that needs no token.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn request<'a>(
        &'a self,
        method: Method,
        url: Url,
        headers: &'a [(&str, &str)],
        environment: &'a Environment,
        deadline: Instant,
    ) -> Boxed<'a, std::result::Result<Reply, SendError>> {
        Box::pin(async move {
            let mut request = self.http.request(method, url);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            self.by(deadline, request, environment).await
        })
    }

    async fn by(
        &self,
        deadline: Instant,
        request: reqwest::RequestBuilder,
        environment: &Environment,
    ) -> std::result::Result<Reply, SendError> {
        let limit = deadline.min(Instant::now() + EXCHANGE);
        let resolver = &self.parts.resolver;
        resolver.set_pending(None);
        match tokio::time::timeout_at(limit, self.exchange(request, environment)).await {
            Ok(result) => result,
            Err(_) => Err(match resolver.pending() {
                Some(name) => unresolved(&name, self.via.as_ref()),
                None => transient(
                    "no answer in time: packets are lost, a firewall drops them, or the hub hangs",
                ),
            }),
        }
    }

    async fn exchange(
        &self,
        request: reqwest::RequestBuilder,
        environment: &Environment,
    ) -> std::result::Result<Reply, SendError> {
        let failed = |error: &reqwest::Error| {
            let pending = self.parts.resolver.pending();
            no_answer(error, pending, self.trust, self.via.as_ref())
        };
        let (client, request) = request.build_split();
        let request = request.map_err(|error| failed(&error))?;
        let again = request.try_clone();
        let mut answered = client.execute(request).await;
        // The server of that connection does not serve the hub's name (RFC 9110, section 15.5.20).
        if let (Ok(response), Some(again)) = (&answered, again)
            && response.status() == StatusCode::MISDIRECTED_REQUEST
        {
            let apart = self.parts.client(brief().pool_max_idle_per_host(0));
            if let Ok(apart) = apart {
                answered = apart.execute(again).await;
            }
        }
        let mut response = answered.map_err(|error| failed(&error))?;

        let text = |name| {
            let value: Option<&HeaderValue> = response.headers().get(name);
            value
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let mut reply = Reply {
            status: response.status().as_u16(),
            retry_after: text(RETRY_AFTER).and_then(|value| retry_after(&value, environment.now())),
            location: text(LOCATION),
            date: text(DATE).and_then(|value| httpdate::parse_http_date(&value).ok()),
            media_type: text(CONTENT_TYPE).map(|value| media_type(&value)),
            coding: text(CONTENT_ENCODING).and_then(|value| coding(&value)),
            body: Zeroizing::default(),
        };
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if reply.body.len() + chunk.len() > MAX_BODY => {
                    return Err(not_our_protocol("the answer is larger than 1 MiB"));
                }
                Ok(Some(chunk)) => reply.body.extend_from_slice(&chunk),
                Ok(None) => return decoded(reply),
                Err(error) => {
                    return Err(transient(format!(
                        "HTTP {}, and then the connection broke: {}",
                        reply.status,
                        chain(&error)
                    )));
                }
            }
        }
    }
}

impl Parts {
    fn client(&self, builder: reqwest::ClientBuilder) -> Result<reqwest::Client> {
        let mut builder = builder
            .dns_resolver(self.resolver.clone())
            .user_agent(concat!("monsys-agent/", env!("CARGO_PKG_VERSION")))
            // Without this header, a server may choose any coding (RFC 9110, section 12.5.3).
            .default_headers(HeaderMap::from_iter([(
                ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            )]))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT)
            // `Environment` reads the proxy variables, so that each test has its own.
            .no_proxy()
            .tls_backend_preconfigured(self.tls.clone());
        if let Some(proxy) = &self.proxy {
            let via = Proxy::https(proxy.value.clone()).map_err(|_| {
                Error::new(ErrorId::BadSetting, "it is not a valid proxy URL").about(&proxy.source)
            })?;
            builder = builder.proxy(via);
        }
        builder
            .build()
            .map_err(|error| Error::new(ErrorId::Internal, chain(&error)).about("the HTTP client"))
    }
}

/// Returns a builder for a client of few requests: these end before a TCP probe would notice that the hub is
/// gone.
fn brief() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tcp_keepalive(None)
        .tcp_keepalive_interval(None)
        .tcp_keepalive_retries(None)
        .tcp_user_timeout(None)
}

fn headers(request: &Request<'_>) -> Option<HeaderMap> {
    let json = HeaderValue::from_static("application/json");
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, json)]);
    if let Some(bearer) = request.bearer {
        let bearer = Zeroizing::new(format!("Bearer {}", bearer.expose_secret()));
        let mut bearer = HeaderValue::from_str(&bearer).ok()?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    if let Some(signature) = &request.signature {
        headers.insert(SIGNATURE, HeaderValue::from_str(signature).ok()?);
    }
    Some(headers)
}

/// Returns the response if its body can be read. The body of an encoded refusal is removed, because its
/// status says enough.
fn decoded(mut reply: Reply) -> std::result::Result<Reply, SendError> {
    match &reply.coding {
        Some(coding) if (200..300).contains(&reply.status) && !reply.body.is_empty() => {
            Err(not_our_protocol(&format!(
                "the answer (HTTP {}) is encoded with {}, and the agent asked for `identity`: a proxy or load balancer compresses it",
                reply.status,
                quoted(coding)
            )))
        }
        Some(_) => {
            reply.body = Zeroizing::default();
            Ok(reply)
        }
        None => Ok(reply),
    }
}
