//! Whether the hub hears from this host: what `status` makes of the service's notes.

use std::time::{Duration, SystemTime};

use super::health::Health;
use crate::error::{ErrorId, Kind};

/// Whether the hub hears from this host, by what the service wrote down.
#[derive(Debug)]
pub struct Pulse {
    /// How it is.
    pub rate: Rate,
    /// Time since the last heartbeat that the hub took.
    pub age: Option<Duration>,
}

/// How the heartbeats go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// The service has never run, or has tried nothing yet.
    Never,
    /// It was stopped.
    Stopped,
    /// The hub hears from this host.
    Good,
    /// Each try fails.
    Failing,
    /// Nobody tries: the service was killed, or hangs.
    Overdue,
}

impl Rate {
    /// Stable word, as in `--output json`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Never => "none",
            Self::Stopped => "stopped",
            Self::Good => "ok",
            Self::Failing => "failing",
            Self::Overdue => "overdue",
        }
    }
}

impl Pulse {
    /// By the service's notes; none when it has never run.
    #[must_use]
    pub fn of(health: Option<&Health>, now: SystemTime) -> Self {
        let age = |at: &Option<String>| {
            let at = humantime::parse_rfc3339(at.as_deref()?).ok()?;
            // A clock that was put back makes no heartbeat old.
            Some(now.duration_since(at).unwrap_or_default())
        };
        let Some(health) = health else {
            return Self {
                rate: Rate::Never,
                age: None,
            };
        };
        let since_taken = age(&health.last_heartbeat);
        let late = |age: Option<Duration>| age.is_none_or(|age| age > health.patience());
        let failing_for = health
            .failing()
            .map(|failure| age(&Some(failure.since.clone())));
        let is_refused = health.failing().is_some_and(|failure| {
            let is_it = |id: &&ErrorId| id.code() == failure.id;
            let id = ErrorId::ALL.iter().find(is_it);
            id.is_some_and(|id| id.kind() == Kind::Rejected)
        });
        let rate = if health.stopped_at.is_some() {
            Rate::Stopped
        } else if late(age(&health.next_try).or(age(&health.last_try))) {
            Rate::Overdue
        } else if is_refused || failing_for.is_some_and(|time| late(since_taken.or(time))) {
            Rate::Failing
        } else if since_taken.is_none() && failing_for.is_none() {
            Rate::Never
        } else {
            Rate::Good
        };
        Self {
            rate,
            age: since_taken,
        }
    }

    /// The last heartbeat, for people.
    #[must_use]
    pub fn told(&self, health: Option<&Health>) -> String {
        let last = health.and_then(|health| health.last_heartbeat.as_deref());
        let last = match (last, self.age) {
            (Some(last), Some(age)) => {
                let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
                format!("{last}, {age} ago")
            }
            _ => "none yet".into(),
        };
        match self.rate {
            Rate::Never | Rate::Good => last,
            Rate::Stopped => format!("{last}; the service was stopped"),
            Rate::Failing => format!("{last}; FAILING"),
            Rate::Overdue => format!("{last}; OVERDUE: the service does not try"),
        }
    }

    /// What is to be done, if anything is.
    #[must_use]
    pub fn mend(&self) -> String {
        match self.rate {
            Rate::Never => {
                "The service has sent nothing yet: does it run? monsys-agent run\n".into()
            }
            Rate::Overdue | Rate::Failing => {
                format!("To mend it, {}\n", ErrorId::Silent.mend())
            }
            _ => String::new(),
        }
    }

    /// Whether monitoring is to know.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        matches!(self.rate, Rate::Failing | Rate::Overdue)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOON: &str = "2026-01-01T12:00:00Z";

    fn after_noon(seconds: u64) -> SystemTime {
        humantime::parse_rfc3339(NOON).unwrap() + Duration::from_secs(seconds)
    }

    fn health(failing: Option<ErrorId>) -> Health {
        let failure = failing.map(|id| {
            json!({
                "since": NOON, "at": NOON, "tries": 1,
                "id": id.code(), "what": "", "why": "", "mend": ""
            })
        });
        serde_json::from_value(json!({
            "agent_id": uuid::Uuid::nil(), "interval_secs": 30,
            "last_try": NOON, "last_heartbeat": NOON, "failure": failure,
        }))
        .unwrap()
    }

    #[track_caller]
    fn expect(health: Option<&Health>, seconds: u64, word: &str) {
        let pulse = Pulse::of(health, after_noon(seconds));
        assert_eq!(pulse.rate.word(), word, "after {seconds} s");
    }

    #[test]
    fn three_intervals_and_a_minute_are_waited_for() {
        let fine = health(None);
        expect(None, 0, "none");
        expect(Some(&fine), 0, "ok");
        expect(Some(&fine), 150, "ok");
        expect(Some(&fine), 151, "overdue");
        let stopped = Health {
            stopped_at: Some(NOON.into()),
            ..fine
        };
        expect(Some(&stopped), 10_000, "stopped");
    }

    #[test]
    fn a_blip_is_no_alarm_and_a_refusal_is_one_at_once() {
        let away = health(Some(ErrorId::Unreachable));
        expect(Some(&away), 60, "ok");
        expect(Some(&away), 151, "overdue");
        let waiting = Health {
            next_try: Some("2026-01-01T12:08:00Z".into()),
            ..away.clone()
        };
        expect(Some(&waiting), 400, "failing");
        let trying = Health {
            last_try: Some("2026-01-01T12:05:00Z".into()),
            ..away
        };
        expect(Some(&trying), 301, "failing");
        let never = Health {
            last_heartbeat: None,
            ..trying.clone()
        };
        expect(Some(&never), 60, "ok");
        expect(Some(&never), 301, "failing");
        expect(Some(&health(Some(ErrorId::Rejected))), 0, "failing");
        expect(Some(&health(Some(ErrorId::OtherKey))), 0, "failing");
    }

    #[test]
    fn a_clock_that_was_put_back_is_no_alarm() {
        let before = after_noon(0) - Duration::from_hours(1);
        let pulse = Pulse::of(Some(&health(None)), before);
        assert_eq!((pulse.rate.word(), pulse.age), ("ok", Some(Duration::ZERO)));
    }
}
