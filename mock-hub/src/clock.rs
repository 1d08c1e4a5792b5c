//! The hub's clocks, which a test can put forward, and times on the wire.

use axum::http::HeaderValue;
use httpdate::fmt_http_date;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

/// A moment, in milliseconds since 1970, as the database keeps it.
pub(crate) type Millis = i64;

/// The end of the year 9999, after which there are no more HTTP dates.
const LAST_SECOND: u64 = 253_402_300_799;

/// The end of the year 9999 in milliseconds, after which there are no more times in RFC 3339.
const LAST_MILLI: Millis = 253_402_300_799_999;

/// The system's clock plus an offset, and one that nobody sets.
#[derive(Debug)]
pub(crate) struct Clock {
    /// How far time was put forward for a test.
    forward: AtomicI64,
    /// How far somebody has set the time of day beside that.
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

/// The system's time of day.
fn wall() -> Millis {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    millis(since_1970.unwrap_or_default())
}

impl Clock {
    /// The time of day, from 1970 to the year 9999: for what is compared with other clocks.
    pub(crate) fn now(&self) -> Millis {
        wall()
            .saturating_add(self.forward.load(Ordering::Relaxed))
            .saturating_add(self.set_by.load(Ordering::Relaxed))
            .clamp(0, LAST_MILLI)
    }

    /// The time of day at the hub's start, and how long it has run since. It never steps, so rates,
    /// ages and silences are measured by it.
    pub(crate) fn steady(&self) -> Millis {
        self.start_wall
            .saturating_add(millis(self.start.elapsed()))
            .saturating_add(self.forward.load(Ordering::Relaxed))
            .clamp(0, LAST_MILLI)
    }

    /// Now, as the `Date` header says it.
    pub(crate) fn http_date(&self) -> HeaderValue {
        let seconds = u64::try_from(self.now() / 1000).unwrap_or_default();
        let text = fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND)));
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
    }

    /// Lets time pass.
    pub(crate) fn advance(&self, by: Duration) {
        add(&self.forward, millis(by));
    }

    /// Sets the time of day forward, or back, as an operator does.
    pub(crate) fn set_by(&self, millis: Millis) {
        add(&self.set_by, millis);
    }
}

fn add(to: &AtomicI64, millis: Millis) {
    let sum = |before: i64| Some(before.saturating_add(millis));
    let _ = to.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
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

    #[test]
    fn who_sets_the_time_of_day_does_not_move_the_steady_clock() {
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
