//! Every response that refuses a request: `{"error": "short_code", "message": "one sentence"}`.

use crate::clock::Millis;
use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The response that refuses a request.
#[derive(Debug)]
pub struct Refusal {
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
    /// Returns the one 401. It never says which of its causes applies, so it takes no argument.
    #[must_use]
    pub fn unauthorised() -> Self {
        let message = "The credential was not accepted.";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// Returns the 403 of a credential that is correct but not sufficient.
    #[must_use]
    pub fn forbidden(code: &'static str, message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// Returns the 404 of a thing such as "agent".
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        let message = format!("There is no such {what}.");
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// Returns the 405 of an address that exists for other methods.
    pub(crate) fn wrong_method() -> Self {
        let message = "This address takes other methods: see the Allow header.";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            message,
        )
    }

    /// Returns the 409 of a signing key that another agent has.
    pub(crate) fn key_in_use() -> Self {
        let message = "This signing key is pinned to another agent: delete that agent, \
                       or rotate its signing key first.";
        Self::new(StatusCode::CONFLICT, "key_in_use", message)
    }

    /// Returns the 409 of a heartbeat whose time is too far from the hub's; `off` says how far.
    pub(crate) fn clock_drift(off: &str, now: &str) -> Self {
        let message = format!(
            "{off}, which says {now}: a heartbeat is good for 5 minutes. Set the host's clock."
        );
        Self::new(StatusCode::CONFLICT, "clock_drift", message)
    }

    /// Returns the 409 of a heartbeat that was accepted before.
    pub(crate) fn replayed() -> Self {
        let message = "This very heartbeat has been taken before.";
        Self::new(StatusCode::CONFLICT, "replayed", message)
    }

    /// Returns the 429 of a call that comes this many milliseconds too early.
    pub(crate) fn too_many(early: Millis) -> Self {
        let seconds = early.saturating_add(999) / 1000;
        let message = format!("Too many calls of this agent: the next one in {seconds} s.");
        let mut refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message);
        refusal.retry_after = Some(seconds);
        refusal
    }

    /// Returns the 413 of a body of more than `limit` bytes.
    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("The body is larger than {limit} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    }

    /// Returns the 415 of a body that is not declared as JSON.
    pub(crate) fn not_json() -> Self {
        let message = "The content type must be application/json.";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            message,
        )
    }

    /// Returns the 400 of a body that is not JSON.
    pub(crate) fn bad_syntax(cause: impl std::fmt::Display) -> Self {
        let message = format!("The body is not JSON: {cause}.");
        Self::new(StatusCode::BAD_REQUEST, "malformed_json", message)
    }

    /// Returns the 408 of a body that did not arrive in time.
    pub(crate) fn too_slow() -> Self {
        let message = "The body took too long to arrive.";
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
    }

    /// Returns the 400 of a body that ended early.
    pub(crate) fn cut_off() -> Self {
        let message = "The body ended early.";
        Self::new(StatusCode::BAD_REQUEST, "incomplete_body", message)
    }

    /// Returns the 422 of a body whose meaning is not valid.
    pub fn invalid(cause: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", cause)
    }

    /// Returns the 500 of a failure of the hub. The cause is for the log, not for the client.
    #[must_use]
    pub fn internal() -> Self {
        let message = "The hub failed; its log says why.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    #[cfg(test)]
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// Makes a refusal that only one call uses.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
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
