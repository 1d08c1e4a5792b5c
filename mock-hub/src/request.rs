//! What handlers take from a request: who asks, from where, and a body that has been checked.

use crate::App;
use crate::capacity::Activity;
use crate::refusal::Refusal;
use crate::secret::TokenHash;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use rustls::pki_types::CertificateDer;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::time::timeout;
use uuid::Uuid;

/// The largest body that is read.
const BODY_LIMIT: usize = 1 << 20;
/// How much more is read and thrown away, so that a host that is still sending sees the 413.
const DRAIN_LIMIT: usize = 16 << 20;

/// A body's shape on the wire, which is checked before a handler sees it.
pub(crate) trait Wire: DeserializeOwned {
    /// What the body means once its limits have been checked.
    type Checked;

    /// Checks the limits that a type alone cannot express.
    fn check(self) -> Result<Self::Checked, String>;
}

/// A body as it came, not parsed.
#[derive(Clone)]
pub(crate) struct RawBody {
    /// The bytes, which are what a host signs.
    pub(crate) bytes: Bytes,
    is_json: bool,
}

impl RawBody {
    /// A body that came with the content type of JSON.
    pub(crate) fn of_json(bytes: Vec<u8>) -> Self {
        Self {
            bytes: bytes.into(),
            is_json: true,
        }
    }

    /// Parses and checks the body.
    ///
    /// Refuses, in this order: another content type (415), no JSON (400), another shape (422).
    pub(crate) fn json<T: Wire>(&self) -> Result<T::Checked, Refusal> {
        if !self.is_json {
            return Err(Refusal::not_json());
        }
        let mut json: Value = serde_json::from_slice(&self.bytes).map_err(Refusal::bad_syntax)?;
        mend_whole_numbers(&mut json);
        let wire: T = serde_path_to_error::deserialize(json)
            .map_err(|cause| Refusal::invalid(cause.to_string()))?;
        wire.check().map_err(Refusal::invalid)
    }
}

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let is_json = request.headers().get(CONTENT_TYPE).is_some_and(is_json);
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|_| Refusal::cut_off())?;
        Ok(Self { bytes, is_json })
    }
}

/// A checked JSON body, for calls whose credential is not a signature over it.
pub(crate) struct JsonBody<T: Wire> {
    pub(crate) value: T::Checked,
}

impl<T: Wire, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let value = RawBody::from_request(request, state).await?.json::<T>()?;
        Ok(Self { value })
    }
}

/// Writes whole numbers as whole: to JSON `2.0` is the integer 2, to serde it is not.
fn mend_whole_numbers(json: &mut Value) {
    match json {
        Value::Number(number) if number.is_f64() => {
            if let Some(whole) = number.as_f64().filter(|value| value.fract() == 0.0)
                && let Ok(whole) = format!("{whole:.0}").parse::<i64>()
            {
                *number = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mend_whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(mend_whole_numbers),
        _ => {}
    }
}

/// `application/json`, with or without parameters.
fn is_json(content_type: &HeaderValue) -> bool {
    let essence = content_type.as_bytes().split(|byte| *byte == b';').next();
    essence.is_some_and(|essence| {
        essence
            .trim_ascii()
            .eq_ignore_ascii_case(b"application/json")
    })
}

/// Reads the body, within a limit of time and size, before anything else looks at the request.
pub(crate) async fn read_body(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let read = match timeout(app.limits.body_time, all_of(body)).await {
        Ok(Ok(read)) => read,
        Ok(Err(refusal)) => return refusal.into_response(),
        Err(_) => {
            let close = [(CONNECTION, HeaderValue::from_static("close"))];
            return (close, Refusal::too_slow()).into_response();
        }
    };
    // From here on the client is waited for no more: its connection is not in the way of others.
    let working = parts.extensions.get().map(Activity::work);
    let response = next.run(Request::from_parts(parts, Body::from(read))).await;
    drop(working);
    response
}

async fn all_of(mut body: Body) -> Result<Vec<u8>, Refusal> {
    let mut read = Vec::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::cut_off())?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len();
        if length <= BODY_LIMIT {
            read.extend_from_slice(&data);
        } else if length > DRAIN_LIMIT {
            break;
        }
    }
    if length > BODY_LIMIT {
        return Err(Refusal::too_large(BODY_LIMIT));
    }
    Ok(read)
}

/// Where the request counts as coming from. The server has put it there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source(pub(crate) IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Source {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts
            .extensions
            .get()
            .copied()
            .ok_or_else(Refusal::internal)
    }
}

/// Who is at the other end of a connection. The server has put it there.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// The certificate that it has proved in the handshake to be its own, if it has shown one.
    pub(crate) certificate: Option<CertificateDer<'static>>,
}

impl Peer {
    pub(crate) fn of(address: SocketAddr) -> Self {
        Self {
            address: address.ip(),
            certificate: None,
        }
    }

    pub(crate) fn with(mut self, chain: Option<&[CertificateDer<'_>]>) -> Self {
        let certificate = chain.and_then(<[_]>::first);
        self.certificate = certificate.map(|certificate| certificate.clone().into_owned());
        self
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts
            .extensions
            .get()
            .cloned()
            .ok_or_else(Refusal::internal)
    }
}

/// The hash of the bearer token, if the request has one at all.
#[derive(Clone, Copy)]
pub(crate) struct Bearer(Option<TokenHash>);

impl Bearer {
    pub(crate) fn token(&self) -> Result<TokenHash, Refusal> {
        self.0.ok_or_else(Refusal::unauthorised)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Bearer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(bearer(&parts.headers).map(TokenHash::of)))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// Proof that the operator asks: the handler that takes it runs for the admin token alone.
pub(crate) struct Admin;

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        // Hashes are compared, so how long that takes tells nothing of the token.
        match bearer(&parts.headers).map(TokenHash::of) {
            Some(hash) if hash == app.admin_token => Ok(Self),
            _ => Err(Refusal::unauthorised()),
        }
    }
}

/// The `{id}` of the path. What is no UUID names nothing: 404.
pub(crate) struct Id(pub(crate) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let nothing = || Refusal::not_found("id");
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| nothing())?;
        text.parse().map(Self).map_err(|_| nothing())
    }
}
