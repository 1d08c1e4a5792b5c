//! The hub's clock, which a test can put forward, and times on the wire.

use axum::http::HeaderValue;
use httpdate::fmt_http_date;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment, in milliseconds since 1970, as the database keeps it.
pub(crate) type Millis = i64;

/// The end of the year 9999, after which there are no more HTTP dates.
const LAST_SECOND: u64 = 253_402_300_799;

/// The system's clock plus an offset.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    offset: AtomicI64,
}

impl Clock {
    pub(crate) fn now(&self) -> Millis {
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        millis(since_1970).saturating_add(self.offset.load(Ordering::Relaxed))
    }

    /// Now, as the `Date` header says it.
    pub(crate) fn http_date(&self) -> HeaderValue {
        let seconds = u64::try_from(self.now() / 1000).unwrap_or_default();
        let text = fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND)));
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.offset.fetch_add(millis(by), Ordering::Relaxed);
    }
}

/// A span in milliseconds, capped at what fits.
pub(crate) fn millis(duration: Duration) -> Millis {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC, to the millisecond: `2026-03-01T12:00:00.250Z`.
pub(crate) fn rfc3339(moment: Millis) -> String {
    let nanos = i128::from(moment) * 1_000_000;
    let utc =
        OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        utc.year(),
        u8::from(utc.month()),
        utc.day(),
        utc.hour(),
        utc.minute(),
        utc.second(),
        utc.millisecond(),
    )
}

/// Reads an RFC 3339 time with any offset.
pub(crate) fn parse_rfc3339(text: &str) -> Option<Millis> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_read_as_they_are_written() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_772_366_400_250), "2026-03-01T12:00:00.250Z");
        assert_eq!(
            parse_rfc3339("2026-03-01T13:00:00.25+01:00"),
            Some(1_772_366_400_250)
        );
        assert_eq!(parse_rfc3339("2026-03-01 12:00"), None);
    }

    proptest! {
        #[test]
        fn round_trip(moment in 0i64..4_102_444_800_000) {
            prop_assert_eq!(parse_rfc3339(&rfc3339(moment)), Some(moment));
        }
    }
}
