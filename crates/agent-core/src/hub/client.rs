//! The HTTP client, the only one in the agent: TLS, proxy, limits and time-outs.

use std::time::{Duration, SystemTime};

use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::{Method, Proxy, Url};
use serde::Deserialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::resolver::ClientResolver;
use super::tls;
use super::transport_error::{
    Connection, chain, no_answer, not_our_protocol, transient, unresolved,
};
use crate::environment::Environment;
use crate::error::{Error, ErrorId, Result};
use crate::settings::Settings;
use crate::token::Secret;

use super::timeouts::CONNECT;
pub use super::timeouts::EXCHANGE;
pub use super::tls::Proof;
pub use super::transport_error::SendError;

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

/// A response, read completely.
#[derive(Default)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Pause that the hub requests (`Retry-After`).
    pub retry_after: Option<Duration>,
    /// Target of a redirect (`Location`).
    pub location: Option<String>,
    /// Time of day at the responding server (`Date`).
    pub date: Option<SystemTime>,
    /// Media type, without parameters, in lower case.
    pub media_type: Option<String>,
    /// The body, which may hold a token.
    pub body: Zeroizing<Vec<u8>>,
}

/// Client of one hub.
pub struct Client {
    http: reqwest::Client,
    resolver: ClientResolver,
    /// The trust in the hub's certificate.
    trust: tls::Trust,
    /// The proxy that connections go through, if the settings name one.
    via: Option<Connection>,
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
        let resolver = ClientResolver::default();
        let mut builder = builder
            .dns_resolver(resolver.clone())
            .user_agent(concat!("monsys-agent/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT)
            // `Environment` reads the proxy variables, so that each test has its own.
            .no_proxy()
            .tls_backend_preconfigured(tls::configuration(settings, proof, lasts)?);
        if let Some(proxy) = settings.proxy_in_use() {
            let via = Proxy::https(proxy.value.url.clone()).map_err(|_| {
                Error::new(ErrorId::BadSetting, "it is not a valid proxy URL").about(&proxy.source)
            })?;
            builder = builder.proxy(via);
        }
        let http = builder.build().map_err(|error| {
            Error::new(ErrorId::Internal, chain(&error)).about("the HTTP client")
        })?;
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
        let trust = tls::Trust::of(settings);
        Ok(Self {
            http,
            resolver,
            trust,
            via,
        })
    }

    /// Sends one request and reads the complete response, by `deadline` at the latest.
    ///
    /// # Errors
    /// [`SendError`], whose text holds no secret.
    pub async fn send(
        &self,
        request: Request<'_>,
        environment: &Environment,
        deadline: Instant,
    ) -> std::result::Result<Reply, SendError> {
        let headers = headers(&request)
            .ok_or_else(|| not_our_protocol("the token cannot be sent in an HTTP header"))?;
        let request = self
            .http
            .request(request.method, request.url)
            .headers(headers)
            .body(request.body.to_vec());
        self.by(deadline, request, environment).await
    }

    /// Sends a request that needs no token.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn request(
        &self,
        method: Method,
        url: Url,
        headers: &[(&str, &str)],
        environment: &Environment,
        deadline: Instant,
    ) -> std::result::Result<Reply, SendError> {
        let mut request = self.http.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.by(deadline, request, environment).await
    }

    async fn by(
        &self,
        deadline: Instant,
        request: reqwest::RequestBuilder,
        environment: &Environment,
    ) -> std::result::Result<Reply, SendError> {
        let limit = deadline.min(Instant::now() + EXCHANGE);
        self.resolver.set_pending(None);
        match tokio::time::timeout_at(limit, self.exchange(request, environment)).await {
            Ok(result) => result,
            Err(_) => Err(match self.resolver.pending() {
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
        let mut response = request.send().await.map_err(|error| {
            no_answer(
                &error,
                self.resolver.pending(),
                self.trust,
                self.via.as_ref(),
            )
        })?;

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
            body: Zeroizing::default(),
        };
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if reply.body.len() + chunk.len() > MAX_BODY => {
                    return Err(not_our_protocol("the answer is larger than 1 MiB"));
                }
                Ok(Some(chunk)) => reply.body.extend_from_slice(&chunk),
                Ok(None) => return Ok(reply),
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

impl Reply {
    /// Returns the hub's message from an error body.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        let body: ErrorBody = serde_json::from_slice(&self.body).ok()?;
        body.message.or(body.error).filter(|text| !text.is_empty())
    }

    /// Returns the hub's short code from an error body.
    #[must_use]
    pub fn error_code(&self) -> Option<String> {
        let body: ErrorBody = serde_json::from_slice(&self.body).ok()?;
        body.error
    }
}

#[derive(Deserialize)]
struct ErrorBody {
    error: Option<String>,
    message: Option<String>,
}

/// Reads a `Retry-After`: seconds or a date (RFC 9110, section 10.2.3). A date in the past is zero.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    // Only digits: Rust's own parser also accepts a plus.
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return value.parse().ok().map(Duration::from_secs);
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

fn media_type(value: &str) -> String {
    let essence = value.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn retry_after_comes_in_seconds_or_as_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (value, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
            ("99999999999999999999999", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(retry_after(value, now), expected, "{value}");
        }
    }

    #[test]
    fn media_types_lose_their_parameters() {
        assert_eq!(
            media_type("Application/JSON; charset=utf-8"),
            "application/json"
        );
    }

    proptest! {
        #[test]
        fn retry_after_never_panics(value in "\\PC{0,60}") {
            let _ = retry_after(&value, SystemTime::UNIX_EPOCH);
        }
    }
}
