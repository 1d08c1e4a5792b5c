//! The host's clocks: the time of day, which can be set to any time, and the time since the boot, which cannot
//! be set (`CLOCK_BOOTTIME`, `clock_gettime(2)`: it also counts while the host sleeps).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// Last second that RFC 3339 and HTTP dates can express: the end of the year 9999, since 1970.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);
/// Longest wait that the agent plans, so that a sum of times never overflows.
const FAR: Duration = Duration::from_hours(24 * 365 * 30);

/// A moment by both clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Time of day.
    pub wall: SystemTime,
    /// Full seconds since the boot; `None` when the kernel does not report them.
    pub since_boot: Option<u64>,
    /// The id of the boot that `since_boot` counts from.
    pub boot_id: String,
}

impl Moment {
    /// Returns a moment of which only the time of day is known.
    #[must_use]
    pub fn of_wall(wall: SystemTime) -> Self {
        Self {
            wall,
            since_boot: None,
            boot_id: String::new(),
        }
    }
}

/// Returns `time`, or the nearest time to it that RFC 3339 can express.
#[must_use]
pub fn expressible(time: SystemTime) -> SystemTime {
    time.clamp(UNIX_EPOCH, UNIX_EPOCH + LAST_SECOND)
}

/// Returns the time of day that is `since` after the begin of 1970, or the last [`expressible`] time.
#[must_use]
pub fn of_1970(since: Duration) -> SystemTime {
    UNIX_EPOCH + since.min(LAST_SECOND)
}

/// Formats a time by RFC 3339, in UTC, in full seconds, after limiting it as [`expressible`] does.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(expressible(time)).to_string()
}

/// Formats a time as [`rfc3339`] does, in milliseconds.
#[must_use]
pub fn rfc3339_millis(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(expressible(time)).to_string()
}

/// Formats a time as [`rfc3339`] does, in microseconds.
#[must_use]
pub fn rfc3339_micros(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(expressible(time)).to_string()
}

/// Formats a time as [`rfc3339`] does, in nanoseconds.
#[must_use]
pub fn rfc3339_nanos(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(expressible(time)).to_string()
}

/// Returns the instant that is `pause` after `start`, or 30 years after it if `pause` is longer.
#[must_use]
pub fn after(start: Instant, pause: Duration) -> Instant {
    start.checked_add(pause.min(FAR)).unwrap_or(start)
}

/// Returns the time since the boot, as the kernel counts it.
#[must_use]
pub fn since_boot() -> Option<Duration> {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    Some(Duration::from_secs(u64::try_from(time.tv_sec()).ok()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any time that the kernel can report, about the edges of years and formats more often.
    pub(crate) fn any_time() -> impl Strategy<Value = SystemTime> {
        let edges = prop::sample::select(vec![
            i64::MIN,
            -1,
            0,
            1,
            253_402_300_799,
            253_402_300_800,
            1_770_000_000,
            i64::MAX,
        ]);
        prop_oneof![any::<i64>(), edges, -10_i64..4_000_000_000].prop_map(of_seconds)
    }

    fn of_seconds(seconds: i64) -> SystemTime {
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let time = if seconds < 0 {
            UNIX_EPOCH.checked_sub(distance)
        } else {
            UNIX_EPOCH.checked_add(distance)
        };
        time.unwrap_or(UNIX_EPOCH)
    }

    proptest! {
        #[test]
        fn any_time_has_a_form_that_reads_back(time in any_time()) {
            for text in [rfc3339(time), rfc3339_millis(time), rfc3339_micros(time), rfc3339_nanos(time)] {
                let back = humantime::parse_rfc3339(&text).unwrap();
                prop_assert_eq!(back, expressible(time));
            }
        }

        #[test]
        fn any_pause_ends_at_an_instant(seconds: u64) {
            let now = Instant::now();
            prop_assert!(after(now, Duration::from_secs(seconds)) >= now);
        }
    }

    #[test]
    fn the_clock_of_the_boot_runs() {
        assert!(since_boot().unwrap() > Duration::ZERO);
    }
}
