//! The hub's clocks, which a test can advance, and times on the wire.

use axum::http::HeaderValue;
use httpdate::fmt_http_date;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

/// A moment in milliseconds since 1970, as the database stores it.
pub type Millis = i64;

/// The end of the year 9999, after which there are no more HTTP dates.
const LAST_SECOND: u64 = 253_402_300_799;

/// The end of the year 9999 in milliseconds, after which there are no more times in RFC 3339.
const LAST_MILLI: Millis = 253_402_300_799_999;

/// Two clocks: the time of day, which an operator can set, and a steady one, which nobody sets.
#[derive(Debug)]
pub struct Clock {
    /// The milliseconds by which a test has advanced both clocks.
    forward: AtomicI64,
    /// The milliseconds by which somebody has set the time of day.
    set_by: AtomicI64,
    start: Instant,
    start_wall: Millis,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            forward: AtomicI64::new(0),
            set_by: AtomicI64::new(0),
            start: Instant::now(),
            start_wall: wall(),
        }
    }
}

/// Returns the system's time of day.
fn wall() -> Millis {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    millis(since_1970.unwrap_or_default())
}

impl Clock {
    /// Returns the time of day, from 1970 to the year 9999, to be compared with other clocks.
    #[must_use]
    pub fn now(&self) -> Millis {
        wall()
            .saturating_add(self.forward.load(Ordering::Relaxed))
            .saturating_add(self.set_by.load(Ordering::Relaxed))
            .clamp(0, LAST_MILLI)
    }

    /// Returns the time of day at the hub's start plus the time since. This clock never steps, so
    /// rates, ages and silences are measured by it.
    pub(crate) fn steady(&self) -> Millis {
        self.start_wall
            .saturating_add(millis(self.start.elapsed()))
            .saturating_add(self.forward.load(Ordering::Relaxed))
            .clamp(0, LAST_MILLI)
    }

    /// Returns the time of day in the form of the `Date` header.
    pub(crate) fn http_date(&self) -> HeaderValue {
        let seconds = u64::try_from(self.now() / 1000).unwrap_or_default();
        let text = fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND)));
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
    }

    /// Advances both clocks.
    pub(crate) fn advance(&self, by: Duration) {
        add(&self.forward, millis(by));
    }

    /// Sets the time of day forward or back, as an operator does.
    pub(crate) fn set_by(&self, millis: Millis) {
        add(&self.set_by, millis);
    }
}

fn add(to: &AtomicI64, millis: Millis) {
    let sum = |before: i64| Some(before.saturating_add(millis));
    let _ = to.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
}

/// Returns a duration in milliseconds, at most the largest `i64`.
pub(crate) fn millis(duration: Duration) -> Millis {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Formats a moment by RFC 3339 in UTC, to the millisecond: `2026-03-01T12:00:00.250Z`.
#[must_use]
pub fn rfc3339(moment: Millis) -> String {
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

/// Parses an RFC 3339 time with any offset.
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

    #[test]
    fn setting_the_time_of_day_does_not_move_the_steady_clock() {
        let clock = Clock::default();
        let begin = clock.steady();
        for millis in [
            -3_600_000,
            40 * 31_557_600_000,
            i64::MIN,
            i64::MAX,
            i64::MAX,
        ] {
            clock.set_by(millis);
            assert!((0..60_000).contains(&(clock.steady() - begin)));
            assert!((0..=LAST_MILLI).contains(&clock.now()));
            assert_eq!(clock.http_date().len(), 29);
        }
        clock.advance(Duration::MAX);
        clock.advance(Duration::MAX);
        assert_eq!((clock.now(), clock.steady()), (LAST_MILLI, LAST_MILLI));
    }

    proptest! {
        #[test]
        fn round_trip(moment in 0i64..4_102_444_800_000) {
            prop_assert_eq!(parse_rfc3339(&rfc3339(moment)), Some(moment));
        }
    }
}
