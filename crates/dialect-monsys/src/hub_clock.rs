//! The hub's clock, for a host whose own is wrong.
//!
//! A hub rejects a heartbeat whose time differs from its own: the heartbeat could be a replay. The
//! rejection shows the drift to the hub's operator. From then on, the host stamps its heartbeats by the
//! hub's clock, which is in each response (`Date`, RFC 9110, section 6.6.1), until the next rejection.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use agent_core::clock;
use agent_core::hub::client::Reply;

/// The HTTP status with which a hub rejects a heartbeat for its time.
const CLOCK_REJECTED: u16 = 409;
/// Largest difference at which the host's clock counts as right.
const TOLERANCE: Duration = Duration::from_mins(1);
/// First time that a hub's clock may show: 2025. No hub of this protocol is older.
const FIRST_PLAUSIBLE: Duration = Duration::from_hours(24 * 20_089);
/// Last time that a hub's clock may show: 2100. A later `Date` comes from a broken clock, or from another
/// server.
const LAST_PLAUSIBLE: Duration = Duration::from_hours(24 * 47_482);
/// Shortest interval between two logged warnings of one kind.
const WARN_INTERVAL: Duration = Duration::from_hours(1);

/// The difference between the hub's clock and this host's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Offset {
    /// The difference is within the tolerance.
    #[default]
    Same,
    /// The hub's clock is ahead by this much.
    Ahead(Duration),
    /// The hub's clock is behind by this much.
    Behind(Duration),
}

impl Offset {
    fn between(theirs: SystemTime, now: SystemTime) -> Self {
        match theirs.duration_since(now) {
            Ok(ahead) if ahead > TOLERANCE => Self::Ahead(ahead),
            Err(behind) if behind.duration() > TOLERANCE => Self::Behind(behind.duration()),
            _ => Self::Same,
        }
    }

    /// Returns the hub's time at `now` of this host. The host's clock may have been set since the rejection,
    /// so an implausible result is replaced by `now`.
    pub(crate) fn at(self, now: SystemTime) -> SystemTime {
        let now = clock::expressible(now);
        let theirs = match self {
            Self::Same => return now,
            Self::Ahead(by) => now.checked_add(by),
            Self::Behind(by) => now.checked_sub(by),
        };
        theirs.filter(|time| is_plausible(*time)).unwrap_or(now)
    }
}

/// Returns whether a hub's clock may show `time`: see [`FIRST_PLAUSIBLE`] and [`LAST_PLAUSIBLE`].
fn is_plausible(time: SystemTime) -> bool {
    (clock::of_1970(FIRST_PLAUSIBLE)..clock::of_1970(LAST_PLAUSIBLE)).contains(&time)
}

/// The hub's clock as this host knows it, and the warnings that were logged about it.
#[derive(Debug)]
pub(crate) struct HubClock {
    /// The HTTP status with which the hub rejects a request for its time.
    rejection: u16,
    offset: Offset,
    warned: [Warned; 4],
}

/// Warnings of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Warned {
    last: Option<Instant>,
    /// Number of warnings since then that were not logged.
    suppressed: u64,
}

/// A warning to log.
#[derive(Clone, Copy, Debug)]
enum Warning {
    Offset(Offset),
    Implausible(SystemTime),
}

impl Default for HubClock {
    fn default() -> Self {
        Self::rejecting_with(CLOCK_REJECTED)
    }
}

impl HubClock {
    /// Returns a clock that learns from responses with this HTTP status.
    pub(crate) fn rejecting_with(status: u16) -> Self {
        Self {
            rejection: status,
            offset: Offset::default(),
            warned: <[Warned; 4]>::default(),
        }
    }

    /// Returns the difference between the hub's clock and this host's clock, as far as it is known.
    pub(crate) fn offset(&self) -> Offset {
        self.offset
    }

    /// Returns the hub's time at `now` of this host.
    pub(crate) fn at(&self, now: SystemTime) -> SystemTime {
        self.offset.at(now)
    }

    /// Learns from a rejected request. Returns whether the request is worth a second try.
    pub(crate) fn learn(&mut self, reply: &Reply, now: SystemTime) -> bool {
        let (is_new, warning) = self.compare(reply, now);
        if let Some(text) = warning.and_then(|warning| self.line(warning, now)) {
            tracing::warn!("{text}");
        }
        is_new
    }

    fn compare(&mut self, reply: &Reply, now: SystemTime) -> (bool, Option<Warning>) {
        let Some(theirs) = reply.date.filter(|_| reply.status == self.rejection) else {
            return (false, None);
        };
        if !is_plausible(theirs) {
            return (false, Some(Warning::Implausible(theirs)));
        }
        let offset = Offset::between(theirs, now);
        // A `Date` has full seconds, so two dates of the same offset are seldom equal.
        let is_new = Offset::between(offset.at(now), self.at(now)) != Offset::Same;
        if !is_new {
            return (false, None);
        }
        self.offset = offset;
        (true, Some(Warning::Offset(offset)))
    }

    /// Returns the text of a warning, or `None` when the same kind was logged less than an hour ago.
    fn line(&mut self, warning: Warning, now: SystemTime) -> Option<String> {
        let kind = match warning {
            Warning::Offset(Offset::Same) => 0,
            Warning::Offset(Offset::Ahead(_)) => 1,
            Warning::Offset(Offset::Behind(_)) => 2,
            Warning::Implausible(_) => 3,
        };
        let warned = &mut self.warned[kind];
        if warned
            .last
            .is_some_and(|last| last.elapsed() < WARN_INTERVAL)
        {
            warned.suppressed = warned.suppressed.saturating_add(1);
            return None;
        }
        warned.last = Some(Instant::now());
        let suppressed = match std::mem::take(&mut warned.suppressed) {
            0 => String::new(),
            count => format!(" ({count} more warnings of this kind since the last one)"),
        };
        let text = match warning {
            Warning::Offset(Offset::Same) => {
                "this host's clock agrees with the hub's clock again".into()
            }
            Warning::Offset(Offset::Ahead(by)) => wrong(by, "behind"),
            Warning::Offset(Offset::Behind(by)) => wrong(by, "ahead of"),
            Warning::Implausible(theirs) => format!(
                "the hub rejects heartbeats for their time, and its clock shows {}, which is not plausible (this host's clock shows {}); hint: have an operator set the hub's clock",
                clock::rfc3339(theirs),
                clock::rfc3339(now)
            ),
        };
        Some(text + &suppressed)
    }
}

/// Returns the text about a clock of this host that is wrong.
fn wrong(by: Duration, side: &str) -> String {
    let by = humantime::format_duration(Duration::from_secs(by.as_secs()));
    format!(
        "this host's clock is {by} {side} the hub's clock; requests are stamped by the hub's clock; hint: timedatectl set-ntp true, or chronyc makestep"
    )
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn refusal(date: SystemTime) -> Reply {
        Reply {
            status: CLOCK_REJECTED,
            date: Some(date),
            ..Reply::default()
        }
    }

    fn in_2030() -> SystemTime {
        clock::of_1970(Duration::from_secs(1_900_000_000))
    }

    #[test]
    fn a_clock_that_is_off_is_learnt_once_and_forgotten_when_it_is_right() {
        let now = in_2030();
        let mut clock = HubClock::default();
        assert!(!clock.learn(&refusal(now + Duration::from_secs(30)), now));
        assert!(clock.learn(&refusal(now + HOUR), now));
        assert_eq!(clock.at(now), now + HOUR);
        assert!(!clock.learn(&refusal(now + HOUR + Duration::from_secs(1)), now));
        // The host's clock was set meanwhile.
        assert!(clock.learn(&refusal(now), now));
        assert_eq!(clock.offset(), Offset::Same);
        assert!(clock.learn(&refusal(now - HOUR), now));
        assert_eq!(clock.at(now), now - HOUR);
        let accepted = Reply {
            status: 204,
            ..refusal(now)
        };
        assert!(!clock.learn(&accepted, now));
    }

    #[test]
    fn a_host_without_a_clock_battery_learns_and_an_implausible_hub_clock_is_ignored() {
        // A Raspberry Pi at its boot, a hub 40 years ahead.
        for now in [
            UNIX_EPOCH,
            clock::of_1970(Duration::from_hours(24 * 365 * 30)),
        ] {
            let mut clock = HubClock::default();
            assert!(clock.learn(&refusal(in_2030()), now));
            assert_eq!(clock.at(now), in_2030());
        }
        let mut clock = HubClock::default();
        assert!(clock.learn(&refusal(in_2030() + 40 * 8766 * HOUR), in_2030()));
        for seconds in [0, 1, 1_735_689_599, 4_102_444_800, 253_402_300_799] {
            let mut clock = HubClock::default();
            let date = clock::of_1970(Duration::from_secs(seconds));
            assert!(!clock.learn(&refusal(date), in_2030()), "{seconds}");
            assert_eq!(clock.at(in_2030()), in_2030());
        }
    }

    /// As behind a cache: each response has the same `Date`, whatever time it is.
    #[tokio::test(start_paused = true)]
    async fn a_week_of_a_date_that_stands_still_or_jumps_is_a_warning_a_kind_and_hour() {
        let begin = in_2030();
        let stands = |_: u32, _: SystemTime| begin;
        let jumps = |number: u32, now: SystemTime| match number % 4 {
            0 => now + HOUR,
            1 => now - HOUR,
            2 => now,
            _ => UNIX_EPOCH,
        };
        let dates: [&dyn Fn(u32, SystemTime) -> SystemTime; 2] = [&stands, &jumps];
        for (date, kinds) in dates.into_iter().zip([1, 4]) {
            let mut clock = HubClock::default();
            let mut logged = Vec::new();
            for number in 0..7 * 24 * 120_u32 {
                let now = begin + Duration::from_secs(30) * number;
                let reply = refusal(date(number, now));
                let (_, warning) = clock.compare(&reply, now);
                logged.extend(warning.and_then(|warning| clock.line(warning, now)));
                tokio::time::advance(Duration::from_secs(30)).await;
            }
            let hours = 7 * 24;
            assert!(logged.len() <= kinds * hours, "{}", logged.len());
            assert!(logged.len() >= kinds * (hours - 7), "{}", logged.len());
            let last = logged.last().unwrap();
            assert!(last.contains("more warnings of this kind"), "{last}");
        }
    }

    proptest! {
        /// The dates of the hub and the changes of the host's clock are arbitrary.
        #[test]
        fn every_heartbeat_has_a_time_that_can_be_written(
            dates in proptest::collection::vec((0_u64..300_000_000_000, any::<i64>()), 1..6),
            later: i64,
        ) {
            let of = |seconds: i64| {
                let distance = Duration::from_secs(seconds.unsigned_abs());
                if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
                    .unwrap_or(UNIX_EPOCH)
            };
            let mut clock = HubClock::default();
            for (date, now) in dates {
                clock.learn(&refusal(UNIX_EPOCH + Duration::from_secs(date)), of(now));
                for time in [now, later, now.saturating_sub(30), now.saturating_add(40 * 31_557_600)] {
                    let stamp = clock::rfc3339_millis(clock.at(of(time)));
                    prop_assert!(stamp.len() == 24 && stamp.ends_with('Z'), "{}", stamp);
                }
            }
        }
    }
}
