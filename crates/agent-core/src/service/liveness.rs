//! The liveness of a host: whether its heartbeats reach the hub, by the health file of the service.

use std::time::{Duration, SystemTime};

use super::health::{Health, SinceBoot};
use crate::clock::Moment;
use crate::error::{ErrorId, Kind};

/// Longest time by which a planned try may be in the future, in addition to [`Health::patience`]: the longest
/// `Retry-After` that the service honours.
const PLANNED: Duration = Duration::from_hours(1);

/// The liveness of a host, by the health file.
#[derive(Debug)]
pub struct Liveness {
    /// The state of the heartbeats.
    pub rate: Rate,
    /// Time since the last heartbeat that the hub accepted. Also `None` when this host's clock has not reached
    /// the time of that heartbeat, so that the age is unknown.
    pub age: Option<Duration>,
}

/// The distance of a noted time from now.
#[derive(Clone, Copy, Debug)]
enum Distance {
    /// The time is in the past.
    Past(Duration),
    /// The time is in the future.
    Ahead(Duration),
}

impl Distance {
    /// Returns the distance between now and a time that was noted by both clocks. The clock since the boot
    /// counts if possible, since it cannot be set.
    fn of(wall: Option<&str>, since_boot: Option<u64>, now: &Moment) -> Option<Self> {
        if let (Some(then), Some(now)) = (since_boot, now.since_boot) {
            let between = Duration::from_secs(now.abs_diff(then));
            return Some(if then <= now {
                Self::Past(between)
            } else {
                Self::Ahead(between)
            });
        }
        let then: SystemTime = humantime::parse_rfc3339(wall?).ok()?;
        Some(match now.wall.duration_since(then) {
            Ok(past) => Self::Past(past),
            Err(ahead) => Self::Ahead(ahead.duration()),
        })
    }

    fn past(self) -> Option<Duration> {
        match self {
            Self::Past(age) => Some(age),
            Self::Ahead(_) => None,
        }
    }
}

/// The state of the heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// The service has never run, or has not sent a heartbeat yet.
    Never,
    /// The service was stopped.
    Stopped,
    /// The hub accepts heartbeats.
    Good,
    /// Each try fails.
    Failing,
    /// The service sends no heartbeats: it was killed, or hangs.
    Overdue,
}

impl Rate {
    /// Returns the stable word of `--output json`.
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

impl Liveness {
    /// Returns the liveness by the health file, which is `None` when the service has never run.
    #[must_use]
    pub fn of(health: Option<&Health>, now: &Moment) -> Self {
        let Some(health) = health else {
            return Self {
                rate: Rate::Never,
                age: None,
            };
        };
        let boot = health.since_boot.as_ref();
        let boot = boot.filter(|boot| !boot.boot_id.is_empty() && boot.boot_id == now.boot_id);
        let distance = |wall: Option<&str>, of: fn(&SinceBoot) -> Option<u64>| {
            Distance::of(wall, boot.and_then(of), now)
        };
        let patience = health.patience();
        // A running service notes each try. So a time far in the future is from a clock that was set back
        // since, and the service has not tried since.
        let late = |distance: Option<Distance>| match distance {
            Some(Distance::Past(by) | Distance::Ahead(by)) => by > patience,
            None => true,
        };
        let taken = distance(health.last_heartbeat.as_deref(), |boot| boot.last_heartbeat);
        let next_try = distance(health.next_try.as_deref(), |boot| boot.next_try);
        let last_try = distance(health.last_try.as_deref(), |boot| boot.last_try);
        let is_tried_ahead = matches!(last_try, Some(Distance::Ahead(by)) if by > patience);
        let is_planned = !is_tried_ahead
            && matches!(next_try, Some(Distance::Ahead(by)) if by <= patience.saturating_add(PLANNED));
        let failing_for = health
            .failing()
            .map(|failure| distance(Some(&failure.since), |boot| boot.failing_since));
        let is_refused = health.failing().is_some_and(|failure| {
            let is_it = |id: &&ErrorId| id.code() == failure.id;
            let id = ErrorId::ALL.iter().find(is_it);
            id.is_some_and(|id| id.kind() == Kind::Rejected)
        });
        let rate = if health.stopped_at.is_some() {
            Rate::Stopped
        } else if !is_planned && late(next_try.or(last_try)) {
            Rate::Overdue
        } else if is_refused || failing_for.is_some_and(|time| late(taken.or(time))) {
            Rate::Failing
        } else if taken.is_none() && failing_for.is_none() {
            Rate::Never
        } else {
            Rate::Good
        };
        Self {
            rate,
            age: taken.and_then(Distance::past),
        }
    }

    /// Describes the last heartbeat, for people.
    #[must_use]
    pub fn describe(&self, health: Option<&Health>) -> String {
        let last = health.and_then(|health| health.last_heartbeat.as_deref());
        let last = match (last, self.age) {
            (Some(last), Some(age)) => {
                let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
                format!("{last}, {age} ago")
            }
            (Some(last), None) => format!("{last}, a time that this host's clock has not reached"),
            (None, _) => "none yet".into(),
        };
        match self.rate {
            Rate::Never | Rate::Good => last,
            Rate::Stopped => format!("{last}; the service was stopped"),
            Rate::Failing => format!("{last}; FAILING"),
            Rate::Overdue => format!("{last}; OVERDUE: the service does not try"),
        }
    }

    /// Returns a hint, if an operator has to act.
    #[must_use]
    pub fn hint(&self) -> String {
        match self.rate {
            Rate::Never => {
                "The service has sent nothing yet: does it run? monsys-agent run\n".into()
            }
            Rate::Stopped => {
                "To start the service: systemctl start monsys-agent, or monsys-agent run\n".into()
            }
            Rate::Overdue | Rate::Failing => {
                format!("To fix it, {}\n", ErrorId::Silent.hint())
            }
            Rate::Good => String::new(),
        }
    }

    /// Returns whether monitoring has to raise an alarm.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        matches!(self.rate, Rate::Failing | Rate::Overdue | Rate::Stopped)
    }
}

#[cfg(test)]
mod tests;
