//! The request for a fault, and its validation.

use super::effect::{Chance, Changes, Effect, Replacement, Reset};
use axum::http::{HeaderValue, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub::body::Wire;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::time::Duration;

const MAX_TIMES: u32 = 1_000_000;
const MAX_DELAY_MS: u64 = 600_000;
/// The longest body in bytes that a fault makes.
pub(super) const MAX_BODY: usize = 64 << 20;

/// A fault to come.
#[derive(Clone)]
pub(crate) struct Fault {
    pub(super) request: FaultRequest,
    pub(super) delay: Option<Duration>,
    pub(super) effect: Effect,
    pub(super) chance: Option<Chance>,
}

/// The request on the wire.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct FaultRequest {
    pub(super) route: String,
    #[serde(default, deserialize_with = "present")]
    file: Option<String>,
    #[serde(default = "once")]
    pub(super) times: u32,
    #[serde(default, deserialize_with = "present")]
    percent: Option<u8>,
    #[serde(default, deserialize_with = "present")]
    seed: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    delay_ms: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    status: Option<u16>,
    #[serde(default, deserialize_with = "present")]
    retry_after: Option<RetryAfter>,
    #[serde(default, deserialize_with = "present")]
    location: Option<String>,
    #[serde(default, deserialize_with = "present")]
    reset: Option<Reset>,
    #[serde(default, deserialize_with = "present")]
    truncate_at: Option<usize>,
    #[serde(default, deserialize_with = "present")]
    body: Option<String>,
    #[serde(default, deserialize_with = "present")]
    body_base64: Option<String>,
    #[serde(default, deserialize_with = "present")]
    body_bytes: Option<usize>,
    #[serde(default, deserialize_with = "present")]
    content_type: Option<String>,
}

/// Returns the default number of times.
fn once() -> u32 {
    1
}

/// Deserialises a field that is present: null is not a way to leave one out.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    field: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(field).map(Some)
}

/// The value of `Retry-After`: seconds, or any text.
#[derive(Clone, Deserialize, Serialize)]
#[serde(untagged)]
enum RetryAfter {
    Seconds(u32),
    Text(String),
}

impl FaultRequest {
    /// Returns the given fields, and how many times are left.
    pub(super) fn to_json(&self) -> Value {
        let mut json = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = json.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        json
    }

    /// Returns whether the fault is for a request for `path` on this route.
    pub(super) fn is_for(&self, route: &str, path: &str) -> bool {
        let is_file = |file: &String| path.rsplit('/').next() == Some(file);
        self.route == route && self.file.as_ref().is_none_or(is_file)
    }

    fn chance(&self) -> Result<Option<Chance>, String> {
        match (self.percent, self.seed) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err("seed: needs a percent".to_owned()),
            (Some(percent @ 1..=100), seed) => {
                Ok(Some(Chance::new(percent, seed.unwrap_or_default())))
            }
            (Some(_), _) => Err("percent: must be 1 to 100".to_owned()),
        }
    }

    fn effect(&self) -> Result<Effect, String> {
        let changes = self.changes()?;
        let replacement = self.replacement()?;
        let Some(reset) = self.reset else {
            let has_body =
                |replacement: &Replacement| !matches!(replacement.status.as_u16(), 204 | 205 | 304);
            if changes.any() && !replacement.as_ref().is_none_or(has_body) {
                return Err("status: has no body that could be changed".to_owned());
            }
            return Ok(Effect::Response(replacement, changes));
        };
        if replacement.is_some() || changes.any() {
            return Err("reset: sends no response, so nothing else can be given".to_owned());
        }
        Ok(Effect::Reset(reset))
    }

    fn replacement(&self) -> Result<Option<Replacement>, String> {
        let retry_after = match &self.retry_after {
            Some(RetryAfter::Seconds(seconds)) => Some(HeaderValue::from(*seconds)),
            Some(RetryAfter::Text(text)) => header("retry_after", Some(text))?,
            None => None,
        };
        let location = header("location", self.location.as_ref())?;
        let Some(status) = self.status else {
            return if retry_after.is_some() || location.is_some() {
                Err("retry_after, location: need a status".to_owned())
            } else {
                Ok(None)
            };
        };
        let status = StatusCode::from_u16(status)
            .ok()
            .filter(|status| (200..=599).contains(&status.as_u16()))
            .ok_or("status: must be 200 to 599")?;
        if location.is_some() && !status.is_redirection() {
            return Err("location: needs a status of 300 to 399".to_owned());
        }
        Ok(Some(Replacement {
            status,
            retry_after,
            location,
        }))
    }

    fn changes(&self) -> Result<Changes, String> {
        for (field, length) in [
            ("body_bytes", self.body_bytes),
            ("truncate_at", self.truncate_at),
        ] {
            at_most(field, length, MAX_BODY)?;
        }
        let body = match (&self.body, &self.body_base64) {
            (Some(_), Some(_)) => return Err("body_base64: not together with body".to_owned()),
            (Some(text), None) => Some(text.clone().into_bytes()),
            (None, Some(text)) => {
                let bytes = STANDARD.decode(text);
                Some(bytes.map_err(|_| "body_base64: is not valid base64".to_owned())?)
            }
            (None, None) => None,
        };
        Ok(Changes {
            body,
            body_bytes: self.body_bytes,
            content_type: header("content_type", self.content_type.as_ref())?,
            truncate_at: self.truncate_at,
        })
    }
}

impl Wire for FaultRequest {
    type Checked = Fault;

    fn check(self) -> Result<Fault, String> {
        at_most("times", Some(self.times), MAX_TIMES)?;
        at_most("delay_ms", self.delay_ms, MAX_DELAY_MS)?;
        if self.file.is_some() && self.route != "dist" {
            return Err("file: needs the route dist".to_owned());
        }
        let fault = Fault {
            delay: self.delay_ms.map(Duration::from_millis),
            effect: self.effect()?,
            chance: self.chance()?,
            request: self,
        };
        let changes_nothing =
            matches!(&fault.effect, Effect::Response(None, changes) if !changes.any());
        if changes_nothing && fault.delay.is_none() && fault.request.times > 0 {
            return Err("route: this fault would do nothing".to_owned());
        }
        Ok(fault)
    }
}

fn header(field: &str, text: Option<&String>) -> Result<Option<HeaderValue>, String> {
    let Some(text) = text else { return Ok(None) };
    HeaderValue::from_str(text)
        .ok()
        .filter(|value| !value.is_empty())
        .map(Some)
        .ok_or_else(|| format!("{field}: is not a valid header value"))
}

fn at_most<T>(field: &str, value: Option<T>, most: T) -> Result<(), String>
where
    T: Copy + PartialOrd + std::fmt::Display,
{
    match value {
        Some(value) if value > most => Err(format!("{field}: at most {most}")),
        _ => Ok(()),
    }
}
