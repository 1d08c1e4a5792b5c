//! Whether the hub hears from this host: what `status` makes of the service's notes.

use std::time::{Duration, SystemTime};

use super::health::{Health, SinceBoot};
use crate::clock::Moment;
use crate::error::{ErrorId, Kind};

/// Longest time by which a planned try may be ahead, beside the usual patience: the longest
/// `Retry-After` that the service believes.
const PLANNED: Duration = Duration::from_hours(1);

/// Whether the hub hears from this host, by what the service wrote down.
#[derive(Debug)]
pub struct Liveness {
    /// How it is.
    pub rate: Rate,
    /// Time since the last heartbeat that the hub took; `None` also where this host's clock has not
    /// reached the time of that heartbeat, so that nobody can say.
    pub age: Option<Duration>,
}

/// How far a noted moment is from now.
#[derive(Clone, Copy, Debug)]
enum Distance {
    /// It is past.
    Past(Duration),
    /// It is still to come.
    Ahead(Duration),
}

impl Distance {
    /// Between a moment that was noted by both clocks and now. The clock since the boot counts where
    /// it can: nobody sets it.
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

impl Liveness {
    /// By the service's notes; none when it has never run.
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
        // A running service notes each try anew. So what is far ahead was noted by a clock that was
        // set back since, and nobody has tried since.
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

    /// The last heartbeat, for people.
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

    /// What is to be done, if anything is.
    #[must_use]
    pub fn hint(&self) -> String {
        match self.rate {
            Rate::Never => {
                "The service has sent nothing yet: does it run? monsys-agent run\n".into()
            }
            Rate::Overdue | Rate::Failing => {
                format!("To fix it, {}\n", ErrorId::Silent.hint())
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
mod tests;
