//! Values of the header fields of a response.

use std::time::{Duration, SystemTime};

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

/// Returns the codings of a body, unless there are none (RFC 9110, section 8.4).
pub(super) fn coding(value: &str) -> Option<String> {
    let codings = value.split(',').map(str::trim);
    let codings: Vec<&str> = codings
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
        .collect();
    (!codings.is_empty()).then(|| codings.join(", "))
}

/// Returns a media type without its parameters, in lower case.
pub(super) fn media_type(value: &str) -> String {
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
    fn identity_is_not_a_coding() {
        assert_eq!(coding("identity, "), None);
        assert_eq!(coding(" gzip , Identity,br").as_deref(), Some("gzip, br"));
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
