//! Bodies of requests: their limits, their content type, and their shape.

use crate::app::App;
use crate::capacity::Activity;
use crate::refusal::Refusal;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use tokio::time::timeout;

/// The largest body in bytes that a handler gets.
const BODY_LIMIT: usize = 1 << 20;
/// The bytes that are read, most of them to be dropped, so that a host that still sends sees the 413.
const DRAIN_LIMIT: usize = 16 << 20;

/// The wire type of a body, which is checked before a handler sees it.
pub trait Wire: DeserializeOwned {
    /// The domain type that a checked body becomes.
    type Checked;

    /// Checks the limits that a type alone cannot express.
    fn check(self) -> Result<Self::Checked, String>;
}

/// The bytes of a body, not parsed.
#[derive(Clone)]
pub(crate) struct RawBody {
    /// The bytes that a host signs.
    pub(crate) bytes: Bytes,
    is_json: bool,
}

impl RawBody {
    /// Makes a body of the content type JSON.
    pub(crate) fn of_json(bytes: Vec<u8>) -> Self {
        Self {
            bytes: bytes.into(),
            is_json: true,
        }
    }

    /// Parses and checks the body.
    ///
    /// Refuses, in this order: another content type (415), malformed JSON (400), another shape (422).
    pub(crate) fn json<T: Wire>(&self) -> Result<T::Checked, Refusal> {
        if !self.is_json {
            return Err(Refusal::not_json());
        }
        let mut json: Value = serde_json::from_slice(&self.bytes).map_err(Refusal::bad_syntax)?;
        normalise_whole_numbers(&mut json);
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

/// A checked JSON body, for calls whose credential is not a signature over the body.
pub struct JsonBody<T: Wire> {
    /// The checked body.
    pub value: T::Checked,
}

impl<T: Wire, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let value = RawBody::from_request(request, state).await?.json::<T>()?;
        Ok(Self { value })
    }
}

/// Turns floats without a fraction into integers: in JSON `2.0` is the integer 2, in serde it is not.
fn normalise_whole_numbers(json: &mut Value) {
    match json {
        Value::Number(number) if number.is_f64() => {
            if let Some(integral) = number.as_f64().filter(|value| value.fract() == 0.0)
                && let Ok(integer) = format!("{integral:.0}").parse::<i64>()
            {
                *number = integer.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(normalise_whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(normalise_whole_numbers),
        _ => {}
    }
}

/// Returns whether the content type is `application/json`, with or without parameters.
fn is_json(content_type: &HeaderValue) -> bool {
    let essence = content_type.as_bytes().split(|byte| *byte == b';').next();
    essence.is_some_and(|essence| {
        essence
            .trim_ascii()
            .eq_ignore_ascii_case(b"application/json")
    })
}

/// Reads the body within the limits of time and size, before any handler runs.
pub(crate) async fn read_body(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let read = match timeout(app.limits.body_time, read_all(body)).await {
        Ok(Ok(read)) => read,
        Ok(Err(refusal)) => return refusal.into_response(),
        Err(_) => {
            let close = [(CONNECTION, HeaderValue::from_static("close"))];
            return (close, Refusal::too_slow()).into_response();
        }
    };
    // From here on the hub no longer waits for the client, so its connection is not closed for another.
    let active = parts.extensions.get().map(Activity::begin_request);
    let response = next.run(Request::from_parts(parts, Body::from(read))).await;
    drop(active);
    response
}

async fn read_all(mut body: Body) -> Result<Vec<u8>, Refusal> {
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
