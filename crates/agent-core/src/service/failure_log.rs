//! The log of heartbeats, for a hub that fails for weeks, or fails and recovers for days.
//!
//! The first failure of a kind is logged at once. Failures that go on, or come back within an hour, are logged at
//! growing intervals, and each line counts the heartbeats since the line before. A hub that accepts and fails
//! in turn costs two lines an hour in the long run.

use std::time::Duration;

use tokio::time::Instant;

use super::heartbeat::{HeartbeatFailure, HeartbeatOutcome};
use crate::error::ErrorId;

/// First pause between two lines about the same state.
const SOON: Duration = Duration::from_mins(1);
/// Longest pause between two lines about failures in a row.
const SELDOM: Duration = Duration::from_hours(24);
/// Longest pause between two lines about a hub that fails and accepts in turn. After this time without a failure,
/// the outage is over, and its failures are forgotten.
const CALM: Duration = Duration::from_hours(1);

/// Decides which heartbeats are logged, by the lines that were logged already.
#[derive(Debug, Default)]
pub(super) struct FailureLog {
    has_accepted: bool,
    outage: Option<Outage>,
}

/// Failures, of which the last was within the last hour.
#[derive(Debug)]
struct Outage {
    /// Kinds of failure that were logged. So two alternating kinds are not new each time.
    kinds: Vec<ErrorId>,
    /// The present failures in a row; `None` while the hub accepts.
    row: Option<Row>,
    /// Time at which the hub last accepted after a failure.
    accepted_since: Instant,
    failures: Pause,
    recoveries: Pause,
    /// True when the last line reported a failure, so that a recovery has to be logged.
    owes_recovery: bool,
    left_out: LeftOut,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    since: Instant,
    tries: u64,
}

/// The growing pause between two lines.
#[derive(Clone, Copy, Debug)]
struct Pause {
    last: Option<Instant>,
    pause: Duration,
}

/// Heartbeats since the last line, which were not logged.
#[derive(Clone, Copy, Debug, Default)]
struct LeftOut {
    failed: u64,
    accepted: u64,
}

/// A line of the log.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Good(String),
    Bad(String),
}

impl Pause {
    const fn new() -> Self {
        Self {
            last: None,
            pause: SOON,
        }
    }

    fn is_over(self, now: Instant) -> bool {
        self.last
            .is_none_or(|last| now.saturating_duration_since(last) >= self.pause)
    }

    /// Begins the pause after a line. It is `factor` times as long as the pause before, up to `longest`.
    fn widen(&mut self, now: Instant, factor: u32, longest: Duration) {
        if self.last.replace(now).is_some() {
            self.pause = self.pause.saturating_mul(factor).min(longest);
        }
    }
}

impl FailureLog {
    /// Logs the outcome of a heartbeat, if it is a change or a pause is over. `next` is the time to the next try.
    pub(super) fn log(&mut self, outcome: &HeartbeatOutcome, next: Duration) {
        match self.line(outcome, next, Instant::now()) {
            Some(Line::Good(text)) => tracing::info!("{text}"),
            Some(Line::Bad(text)) => tracing::warn!("{text}"),
            None => {
                if let HeartbeatOutcome::Missed(miss) = outcome {
                    tracing::debug!("{}: {}", miss.error.what(), miss.error.cause());
                }
            }
        }
    }

    fn line(&mut self, outcome: &HeartbeatOutcome, next: Duration, now: Instant) -> Option<Line> {
        match outcome {
            HeartbeatOutcome::NotSent => None,
            HeartbeatOutcome::Accepted => self.accepted(now).map(Line::Good),
            HeartbeatOutcome::Missed(miss) => self.missed(miss, next, now).map(Line::Bad),
        }
    }

    fn accepted(&mut self, now: Instant) -> Option<String> {
        let is_first = !std::mem::replace(&mut self.has_accepted, true);
        let Some(outage) = &mut self.outage else {
            return is_first.then(|| "the hub accepts this host's heartbeats".into());
        };
        let row = outage.row.take();
        if row.is_some() {
            outage.accepted_since = now;
        }
        let is_calm = now.saturating_duration_since(outage.accepted_since) >= CALM;
        let line = if outage.owes_recovery && outage.recoveries.is_over(now) {
            outage.recoveries.widen(now, 4, CALM);
            outage.owes_recovery = false;
            let after = match row {
                Some(row) => format!(
                    ", after {} and {} failures",
                    seconds(now.saturating_duration_since(row.since)),
                    row.tries
                ),
                None => format!(
                    ", for {}",
                    seconds(now.saturating_duration_since(outage.accepted_since))
                ),
            };
            // The line already counts the failures of this row.
            let row = row.map_or(0, |row| row.tries);
            let left_out = std::mem::take(&mut outage.left_out).without(row);
            Some(format!("the hub accepts heartbeats again{after}{left_out}"))
        } else {
            outage.left_out.accepted = outage.left_out.accepted.saturating_add(1);
            None
        };
        if is_calm {
            self.outage = None;
        }
        line
    }

    fn missed(&mut self, miss: &HeartbeatFailure, next: Duration, now: Instant) -> Option<String> {
        let id = miss.error.id();
        // The last accepted heartbeat may be old: the host slept, or the interval is long.
        self.outage = self.outage.take().filter(|outage| {
            outage.row.is_some() || now.saturating_duration_since(outage.accepted_since) < CALM
        });
        let outage = self.outage.get_or_insert_with(|| Outage {
            kinds: Vec::new(),
            row: None,
            accepted_since: now,
            failures: Pause::new(),
            recoveries: Pause::new(),
            owes_recovery: false,
            left_out: LeftOut::default(),
        });
        let row = match outage.row {
            Some(row) => Row {
                tries: row.tries.saturating_add(1),
                ..row
            },
            None => {
                // The pause of an earlier row may have grown to a day, which is too long for a new row.
                outage.failures.pause = outage.failures.pause.min(CALM);
                Row {
                    since: now,
                    tries: 1,
                }
            }
        };
        outage.row = Some(row);
        let is_new = !outage.kinds.contains(&id);
        if !is_new && !outage.failures.is_over(now) {
            outage.left_out.failed = outage.left_out.failed.saturating_add(1);
            return None;
        }
        if is_new {
            outage.kinds.push(id);
        }
        outage.failures.widen(now, 2, SELDOM);
        outage.owes_recovery = true;
        let lasts = if row.tries == 1 {
            String::new()
        } else {
            let lasts = now.saturating_duration_since(row.since);
            format!(" (for {} now)", seconds(lasts))
        };
        Some(format!(
            "a heartbeat failed{lasts}: {}; cause: {}; hint: {}; next try in {}{}",
            miss.error.what(),
            miss.error.cause(),
            miss.error.next_step(),
            seconds(next),
            std::mem::take(&mut outage.left_out)
        ))
    }
}

impl LeftOut {
    fn without(self, failed: u64) -> Self {
        Self {
            failed: self.failed.saturating_sub(failed),
            ..self
        }
    }
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { failed, accepted } = self;
        if *failed == 0 && *accepted == 0 {
            return Ok(());
        }
        write!(
            f,
            "; since the line before, {failed} more failed and {accepted} were accepted"
        )
    }
}

fn seconds(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs().max(1)))
}

#[cfg(test)]
mod tests;
