//! Every answer of the hub that is a no: `{"error": "short_code", "message": "one sentence"}`.

use crate::clock::Millis;
use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// A request refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// In whole seconds.
    retry_after: Option<i64>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    message: &'a str,
}

impl Refusal {
    /// The one 401. It never says which of its causes it was, so it takes no argument.
    pub(crate) fn unauthorised() -> Self {
        let message = "The credential was not accepted.";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// The credential is right, and something else about it is not.
    pub(crate) fn forbidden(code: &'static str, message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    pub(crate) fn not_found(what: &str) -> Self {
        let message = format!("There is no such {what}.");
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn wrong_method() -> Self {
        let message = "This address takes other methods: see the Allow header.";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            message,
        )
    }

    pub(crate) fn key_in_use() -> Self {
        let message = "This signing key is pinned to another agent: delete that agent, \
                       or rotate its signing key first.";
        Self::new(StatusCode::CONFLICT, "key_in_use", message)
    }

    /// A heartbeat from another time than the hub's. `off` says how far.
    pub(crate) fn clock_drift(off: &str, now: &str) -> Self {
        let message = format!(
            "{off}, which says {now}: a heartbeat is good for 5 minutes. Set the host's clock."
        );
        Self::new(StatusCode::CONFLICT, "clock_drift", message)
    }

    pub(crate) fn replayed() -> Self {
        let message = "This very heartbeat has been taken before.";
        Self::new(StatusCode::CONFLICT, "replayed", message)
    }

    /// A call that comes so many milliseconds too early.
    pub(crate) fn too_many(early: Millis) -> Self {
        let seconds = early.saturating_add(999) / 1000;
        let message = format!("Too many calls of this agent: the next one in {seconds} s.");
        let mut refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message);
        refusal.retry_after = Some(seconds);
        refusal
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("The body is larger than {limit} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    }

    pub(crate) fn not_json() -> Self {
        let message = "The content type must be application/json.";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            message,
        )
    }

    pub(crate) fn bad_syntax(cause: impl std::fmt::Display) -> Self {
        let message = format!("The body is not JSON: {cause}.");
        Self::new(StatusCode::BAD_REQUEST, "malformed_json", message)
    }

    pub(crate) fn too_slow() -> Self {
        let message = "The body took too long to arrive.";
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
    }

    pub(crate) fn cut_off() -> Self {
        let message = "The body ended early.";
        Self::new(StatusCode::BAD_REQUEST, "incomplete_body", message)
    }

    pub(crate) fn invalid(cause: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", cause)
    }

    /// The hub's own fault. What it was is for the log, not for the other side.
    pub(crate) fn internal() -> Self {
        let message = "The hub failed; its log says why.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    #[cfg(test)]
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// A no of one call alone.
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Json(Body {
            error: self.code,
            message: &self.message,
        });
        let mut response = (self.status, body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}
