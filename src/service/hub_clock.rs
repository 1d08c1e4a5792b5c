//! The hub's clock, for a host whose own is wrong.
//!
//! A hub takes no heartbeat from another time than its own: it could be a replay. It says so once,
//! and its operator sees the drift; the host then stamps by the hub's clock, which every answer of
//! it tells (`Date`, RFC 9110, section 6.6.1), until the hub objects again.

use std::time::{Duration, SystemTime};

use crate::hub::client::Reply;

/// The status by which a hub refuses a heartbeat for its time.
const OBJECTION: u16 = 409;
/// Less than this is no reason to doubt the host's clock.
const TOLERANCE: Duration = Duration::from_mins(1);
/// The first second that has no form in RFC 3339, since 1970.
const YEAR_10000: Duration = Duration::from_hours(24 * 2_932_897);

/// How far the hub's clock is from this host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HubClock {
    /// Near enough.
    #[default]
    Same,
    /// The hub's is later by this much.
    Ahead(Duration),
    /// The hub's is earlier by this much.
    Behind(Duration),
}

impl HubClock {
    /// The hub's time of day when it is `now` on this host; `now` itself when the hub's would have no
    /// form in RFC 3339, which ends with the year 9999.
    pub(crate) fn at(self, now: SystemTime) -> SystemTime {
        let theirs = match self {
            Self::Same => Some(now),
            Self::Ahead(by) => now.checked_add(by),
            Self::Behind(by) => now.checked_sub(by),
        };
        let has_form = |time: &SystemTime| {
            let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH);
            since_1970.is_ok_and(|time| time < YEAR_10000)
        };
        theirs.filter(has_form).unwrap_or(now)
    }

    /// Learns from an answer that refuses a heartbeat. Whether there is something new to try.
    pub(crate) fn learn(&mut self, reply: &Reply, now: SystemTime) -> bool {
        let (OBJECTION, Some(theirs)) = (reply.status, reply.date) else {
            return false;
        };
        let difference = match theirs.duration_since(now) {
            Ok(ahead) if ahead > TOLERANCE => Self::Ahead(ahead),
            Err(behind) if behind.duration() > TOLERANCE => Self::Behind(behind.duration()),
            _ => Self::Same,
        };
        // A `Date` has whole seconds, so two of the same difference are seldom equal.
        let is_new = difference.at(now).duration_since(self.at(now)).map_or_else(
            |earlier| earlier.duration() > TOLERANCE,
            |later| later > TOLERANCE,
        );
        if is_new {
            *self = difference;
            tracing::warn!("{self}");
        }
        is_new
    }
}

impl std::fmt::Display for HubClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, by) = match self {
            Self::Same => return f.write_str("this host's clock is the hub's again"),
            Self::Ahead(by) => ("behind", by),
            Self::Behind(by) => ("ahead of", by),
        };
        let by = humantime::format_duration(Duration::from_secs(by.as_secs()));
        write!(
            f,
            "this host's clock is {by} {word} the hub's; heartbeats are stamped by the hub's; mend: timedatectl set-ntp true, or chronyc makestep"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(date: SystemTime) -> Reply {
        Reply {
            status: OBJECTION,
            date: Some(date),
            ..Reply::default()
        }
    }

    #[test]
    fn a_clock_that_is_off_is_learnt_once_and_forgotten_when_it_is_right() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 30);
        let hour = Duration::from_hours(1);
        let mut clock = HubClock::default();
        assert!(!clock.learn(&refusal(now + Duration::from_secs(30)), now));
        assert!(clock.learn(&refusal(now + hour), now));
        assert_eq!(clock.at(now), now + hour);
        assert!(!clock.learn(&refusal(now + hour + Duration::from_secs(1)), now));
        // The host's clock was set meanwhile.
        assert!(clock.learn(&refusal(now), now));
        assert_eq!(clock, HubClock::Same);
        assert!(clock.learn(&refusal(now - hour), now));
        assert_eq!(clock.at(now), now - hour);
        let accepted = Reply {
            status: 204,
            ..refusal(now)
        };
        assert!(!clock.learn(&accepted, now));
    }

    #[test]
    fn a_hub_at_the_end_of_time_ends_no_service() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 30);
        let later = now + Duration::from_secs(30);
        let last = SystemTime::UNIX_EPOCH + YEAR_10000 - Duration::from_secs(1);
        let mut ahead = HubClock::default();
        assert!(ahead.learn(&refusal(last), now));
        let mut behind = HubClock::default();
        assert!(behind.learn(&refusal(SystemTime::UNIX_EPOCH), later));
        for (clock, now) in [(ahead, later), (behind, now)] {
            let stamp = humantime::format_rfc3339_millis(clock.at(now)).to_string();
            assert!(stamp.starts_with("1999-"), "{stamp}");
        }
        assert_eq!(ahead.at(now), last);
        assert_eq!(behind.at(later), SystemTime::UNIX_EPOCH);
    }
}
