//! Optional fields of a response. A field that does not matter never costs the credential beside it.

use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Shortest and longest plausible interval between heartbeats, in seconds.
const INTERVALS: RangeInclusive<f64> = 1.0..=86_400.0;

/// An optional field of a response. `null`, and a value of another type, count as absent.
///
/// Not for secrets: the text of the value is copied.
#[derive(Debug, Default)]
pub enum Optional<T> {
    /// The field is missing or `null`.
    #[default]
    Absent,
    /// The field has a value of another type.
    Odd,
    /// The value.
    Value(T),
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Optional<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // The raw text also covers a value that the parser would refuse, such as the number 1e999.
        let raw = Box::<RawValue>::deserialize(from)?;
        Ok(match serde_json::from_str::<Option<T>>(raw.get()) {
            Ok(Some(value)) => Self::Value(value),
            Ok(None) => Self::Absent,
            Err(_) => Self::Odd,
        })
    }
}

impl<T> Optional<T> {
    /// Returns the value. Logs a warning that names the field, and never the value, if the type is another
    /// one.
    pub fn or_warn(self, field: &str) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent => None,
            Self::Odd => {
                warn(field, "it has the wrong type");
                None
            }
        }
    }
}

impl Optional<f64> {
    /// Returns a number of seconds between heartbeats, at least 1 and at most a day. A negative number
    /// counts as absent, with a warning.
    #[must_use]
    pub fn interval_secs(self, field: &str) -> Option<u64> {
        let seconds = self.or_warn(field)?;
        if seconds < 0.0 {
            warn(field, "it is negative");
            return None;
        }
        let seconds = seconds.clamp(*INTERVALS.start(), *INTERVALS.end());
        // The clamped number is from 1 to 86400, so the conversion succeeds.
        std::time::Duration::try_from_secs_f64(seconds)
            .ok()
            .map(|interval| interval.as_secs())
    }
}

/// Logs that a field of a response counts as absent.
pub fn warn(field: &str, fault: &str) {
    tracing::warn!("`{field}` of the response is ignored: {fault}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        text: Optional<String>,
        #[serde(default)]
        secs: Optional<f64>,
        #[serde(default)]
        list: Optional<Vec<Optional<String>>>,
    }

    fn body(text: &str) -> Body {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_odd_value_counts_as_absent() {
        for odd in [
            "null",
            "1",
            "true",
            "[]",
            "{}",
            "1e999",
            "[[[1]]]",
            "\"\\ud800\"",
        ] {
            let body = body(&format!(r#"{{"text": {odd}}}"#));
            assert_eq!(body.text.or_warn("text"), None, "{odd}");
        }
        assert_eq!(body("{}").text.or_warn("text"), None);
        assert_eq!(body(r#"{"text": "a"}"#).text.or_warn("text").unwrap(), "a");
        let list = body(r#"{"list": ["a", null, 1]}"#)
            .list
            .or_warn("list")
            .unwrap();
        assert_eq!(list.len(), 3);
    }

    #[test]
    fn an_interval_is_from_a_second_to_a_day() {
        for (text, expected) in [
            ("30", Some(30)),
            ("30.5", Some(30)),
            ("0", Some(1)),
            ("0.2", Some(1)),
            ("18446744073709551616", Some(86_400)),
            ("1e300", Some(86_400)),
            ("1e999", None),
            ("-5", None),
            ("\"30\"", None),
            ("null", None),
            ("[30]", None),
        ] {
            let body = body(&format!(r#"{{"secs": {text}}}"#));
            assert_eq!(body.secs.interval_secs("secs"), expected, "{text}");
        }
    }
}
