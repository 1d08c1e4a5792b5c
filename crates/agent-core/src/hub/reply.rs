//! A response of a server, and the message in its body.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use zeroize::Zeroizing;

use crate::redact::redact;

/// Most characters of a message that are shown.
const SHOWN: usize = 200;
/// Most levels of a JSON body that are searched for a message.
const DEEPEST: usize = 4;
/// The keys of a message in the error bodies of common servers, the most specific one first. An object or a
/// list at such a key is searched too. RFC 9457 has `detail` and `title`, and RFC 6749 `error_description`.
const KEYS: [&str; 14] = [
    "message",
    "error_description",
    "error_message",
    "errorMessage",
    "detail",
    "msg",
    "description",
    "reason",
    "faultstring",
    "error",
    "errors",
    "fault",
    "title",
    "code",
];

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
    /// Coding of the body (`Content-Encoding`), which the agent did not ask for and does not decode.
    pub coding: Option<String>,
    /// The body, which may hold a token.
    pub body: Zeroizing<Vec<u8>>,
}

impl Reply {
    /// Returns the message of an error body: of a JSON body in one of the common forms, or a plain text.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        if self.is_page() {
            return None;
        }
        match serde_json::from_slice(&self.body) {
            // Only a message is shown: another field may be a credential.
            Ok(json) => message_in(&json, DEEPEST),
            Err(_) => self.text(),
        }
    }

    /// Returns the hub's short code, as the protocol has it: `{"error": CODE}`.
    #[must_use]
    pub fn error_code(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        Some(body.get("error")?.as_str()?.to_owned())
    }

    /// Returns whether the body has this short code: in the form of the protocol, in an object at `error`, as
    /// `code`, or as the complete text.
    #[must_use]
    pub fn has_code(&self, code: &str) -> bool {
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(body) => [
                "/error",
                "/code",
                "/error/code",
                "/error/error",
                "/error/message",
            ]
            .iter()
            .any(|place| body.pointer(place).and_then(Value::as_str) == Some(code)),
            Err(_) => self.text().as_deref() == Some(code),
        }
    }

    /// Returns whether the response is an HTML page: a hub never sends one.
    #[must_use]
    pub fn is_page(&self) -> bool {
        let begin: Vec<u8> = self.body.iter().copied().take(64).collect();
        let begin = String::from_utf8_lossy(&begin);
        let begin = begin.trim_start_matches('\u{feff}').trim_start();
        let begins = |with: &str| {
            let start = begin.get(..with.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(with))
        };
        self.media_type.as_deref() == Some("text/html")
            || self.media_type.as_deref() == Some("application/xhtml+xml")
            || begins("<!doctype html")
            || begins("<html")
    }

    /// Returns the body as a text. A body with other bytes than those of a text has none.
    fn text(&self) -> Option<String> {
        let text = std::str::from_utf8(&self.body).ok()?;
        let text = text.trim_start_matches('\u{feff}').trim();
        (text.contains(char::is_alphanumeric) && !text.contains('\0')).then(|| text.to_owned())
    }
}

/// Returns the first message in a JSON value.
fn message_in(value: &Value, depth: usize) -> Option<String> {
    match value {
        Value::String(text) => (!text.trim().is_empty()).then(|| text.clone()),
        _ if depth == 0 => None,
        Value::Array(list) => list.iter().find_map(|value| message_in(value, depth - 1)),
        Value::Object(fields) => KEYS
            .iter()
            .find_map(|key| message_in(fields.get(*key)?, depth - 1)),
        _ => None,
    }
}

/// Returns a text from outside for a message: shortened, without tokens, in quotes, and with its control
/// characters escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{:?}", redact(&short))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(media_type: &str, body: &str) -> Reply {
        Reply {
            status: 400,
            media_type: Some(media_type.into()),
            body: body.as_bytes().to_vec().into(),
            ..Reply::default()
        }
    }

    #[test]
    fn a_message_is_found_in_every_common_form() {
        for (body, message) in [
            (r#"{"message": "no way"}"#, "no way"),
            (r#"{"error": "bad_csr", "message": "no way"}"#, "no way"),
            (r#"{"error": "no_way"}"#, "no_way"),
            (r#"{"error": {"code": "x", "message": "no way"}}"#, "no way"),
            (r#"{"success": false, "error": {"code": "x"}}"#, "x"),
            (
                r#"{"errors": [{"status": 1, "detail": "no way"}]}"#,
                "no way",
            ),
            (
                r#"{"type": "about:blank", "title": "Bad", "detail": "no way"}"#,
                "no way",
            ),
            (
                r#"{"detail": [{"loc": ["body"], "msg": "no way", "input": {"a": 1}}]}"#,
                "no way",
            ),
            (r#"{"error": "x", "error_description": "no way"}"#, "no way"),
            (r#"{"fault": {"faultstring": "no way"}}"#, "no way"),
            (r#""no way""#, "no way"),
            (r#"["no way"]"#, "no way"),
            (
                r#"{"message": " ", "error": null, "title": "no way"}"#,
                "no way",
            ),
        ] {
            let found = reply("application/json", body).message();
            assert_eq!(found.as_deref(), Some(message), "{body}");
        }
        for media_type in ["text/plain", "application/octet-stream", "application/json"] {
            let found = reply(media_type, "\u{feff}no way: {\n").message();
            assert_eq!(found.as_deref(), Some("no way: {"), "{media_type}");
        }
    }

    #[test]
    fn pages_bytes_and_empty_bodies_have_no_message() {
        for (media_type, body) in [
            ("text/html", "no way"),
            ("text/plain", "\r\n <!DOCTYPE HTML><p>no way"),
            ("", "<html>"),
            ("application/json", "{}"),
            ("application/json", "null"),
            (
                "application/json",
                r#"{"success": false, "data": {"sensorToken": "x"}}"#,
            ),
            ("application/json", " "),
            ("text/plain", "PK\u{3}\u{0}\u{0}"),
        ] {
            assert_eq!(reply(media_type, body).message(), None, "{body}");
        }
        let bytes = Reply {
            body: vec![b'a', 0xff].into(),
            ..Reply::default()
        };
        assert_eq!(bytes.message(), None);
        let deep = format!("{}{}{}", "[".repeat(60), "\"x\"", "]".repeat(60));
        assert_eq!(reply("application/json", &deep).message(), None);
    }

    #[test]
    fn a_code_is_found_in_every_common_form() {
        for body in [
            r#"{"error": "secret_exhausted"}"#,
            r#"{"error": {"code": "secret_exhausted", "message": "no"}}"#,
            r#"{"error": {"message": "secret_exhausted"}}"#,
            r#"{"code": "secret_exhausted", "message": "no"}"#,
            "secret_exhausted\n",
        ] {
            assert!(
                reply("text/plain", body).has_code("secret_exhausted"),
                "{body}"
            );
        }
        assert!(!reply("text/plain", "not secret_exhausted").has_code("secret_exhausted"));
        let nested = reply("application/json", r#"{"error": {"code": "unauthorized"}}"#);
        assert_eq!(nested.error_code(), None);
    }

    #[test]
    fn a_text_from_outside_is_bounded_and_escaped() {
        let long = quoted(&"é\u{1b}\n\u{202e}".repeat(200));
        assert!(long.chars().count() < 200 * 8, "{long}");
        assert!(long.ends_with("…\""), "{long}");
        assert!(!long.contains(crate::escape::is_hidden), "{long}");
        assert_eq!(quoted("enrl_abcdefgh no"), "\"enrl_[redacted] no\"");
    }
}
