//! The middleware that applies a fault to a call.

use super::effect::{Changes, Effect, Replacement, Reset};
use super::pending::Faults;
use super::request::MAX_BODY;
use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use hub::connection::Disconnect;
use hub::refusal::Refusal;
use std::sync::Arc;

/// Runs a call, and lets the next fault for it happen.
pub(crate) async fn inject(
    State(faults): State<Arc<Faults>>,
    request: Request,
    next: Next,
) -> Response {
    let fault = request
        .extensions()
        .get::<MatchedPath>()
        .and_then(|route| faults.route_of(request.method(), route.as_str()))
        .and_then(|route| Some((route, faults.take(route, request.uri().path())?)));
    let Some((route, fault)) = fault else {
        return next.run(request).await;
    };
    tracing::info!(route, "fault");
    if let Some(delay) = fault.delay {
        tokio::time::sleep(delay).await;
    }
    match fault.effect {
        Effect::Reset(Reset::Before) => reset(),
        Effect::Reset(Reset::After) => {
            next.run(request).await;
            reset()
        }
        Effect::Response(Some(replacement), changes) => {
            changes.apply(replacement.into_response()).await
        }
        // The response to a HEAD has no body to change.
        Effect::Response(None, _) if request.method() == Method::HEAD => next.run(request).await,
        Effect::Response(None, changes) => changes.apply(next.run(request).await).await,
    }
}

/// Returns a response at which the server resets the connection. No client sees it.
fn reset() -> Response {
    let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
    response.extensions_mut().insert(Disconnect::Reset);
    response
}

impl Replacement {
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
            // Only a file can be too large, or unreadable.
            Err(cause) => {
                tracing::error!(%cause, "reading the body that a fault changes");
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
            response.extensions_mut().insert(Disconnect::AfterBytes(at));
        }
        response
    }
}

fn set(response: &mut Response, name: HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        response.headers_mut().insert(name, value);
    }
}
