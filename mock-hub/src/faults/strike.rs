//! How a fault happens to a call.

use super::wire::MAX_BODY;
use super::{Changes, Effect, Instead, Reset, Route};
use crate::App;
use crate::refusal::Refusal;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use std::sync::Arc;

/// What the server does to the connection under a reply.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sever {
    /// Resets it (TCP RST) instead of sending the reply.
    Reset,
    /// Sends this many bytes of the body, and then cuts it.
    After(usize),
}

/// A route that faults happen to.
#[derive(Clone)]
pub(crate) struct FaultPoint {
    pub(crate) app: Arc<App>,
    pub(crate) route: Route,
}

/// Stands between the server and a host's call, and lets the next fault happen to it.
pub(crate) async fn strike(
    State(point): State<FaultPoint>,
    request: Request,
    next: Next,
) -> Response {
    let Some(fault) = point.app.faults.take(point.route, request.uri().path()) else {
        return next.run(request).await;
    };
    tracing::info!(route = ?point.route, "fault");
    if let Some(delay) = fault.delay {
        tokio::time::sleep(delay).await;
    }
    match fault.effect {
        Effect::Reset(Reset::Before) => severed(),
        Effect::Reset(Reset::After) => {
            next.run(request).await;
            severed()
        }
        Effect::Reply(Some(instead), changes) => changes.apply(instead.into_response()).await,
        // The answer to a HEAD has no body to change.
        Effect::Reply(None, _) if request.method() == Method::HEAD => next.run(request).await,
        Effect::Reply(None, changes) => changes.apply(next.run(request).await).await,
    }
}

/// What the server takes as the order to reset the connection. Nobody sees the reply.
fn severed() -> Response {
    let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
    response.extensions_mut().insert(Sever::Reset);
    response
}

impl Instead {
    fn into_response(self) -> Response {
        const BODY: &str = r#"{"error":"fault","message":"A fault answered in the hub's place."}"#;
        let mut response = if matches!(self.status.as_u16(), 204 | 205 | 304) {
            self.status.into_response()
        } else {
            (self.status, [(CONTENT_TYPE, "application/json")], BODY).into_response()
        };
        set(&mut response, RETRY_AFTER, self.retry_after);
        set(&mut response, LOCATION, self.location);
        response
    }
}

impl Changes {
    async fn apply(self, response: Response) -> Response {
        if !self.any() {
            return response;
        }
        let (parts, original) = response.into_parts();
        let original = match to_bytes(original, MAX_BODY).await {
            Ok(original) => original,
            // Only a file can be too large, or fail to be read.
            Err(cause) => {
                tracing::error!(%cause, "the body that a fault was to change");
                return Refusal::internal().into_response();
            }
        };
        let mut body = self.body.unwrap_or_else(|| original.to_vec());
        if let Some(length) = self.body_bytes {
            body.resize(body.len().max(length), b' ');
        }
        let is_empty = body.is_empty();
        let mut response = Response::from_parts(parts, Body::from(body));
        response.headers_mut().remove(CONTENT_LENGTH);
        if response.status() == StatusCode::NO_CONTENT && !is_empty {
            // A 204 cannot carry what the fault puts into it.
            *response.status_mut() = StatusCode::OK;
            let json = HeaderValue::from_static("application/json");
            set(&mut response, CONTENT_TYPE, Some(json));
        }
        set(&mut response, CONTENT_TYPE, self.content_type);
        if let Some(at) = self.truncate_at {
            response.extensions_mut().insert(Sever::After(at));
        }
        response
    }
}

fn set(response: &mut Response, name: HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        response.headers_mut().insert(name, value);
    }
}
