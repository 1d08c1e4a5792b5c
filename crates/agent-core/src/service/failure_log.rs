//! The log of a service whose hub may fail for weeks, or come and go for days.
//!
//! The first failure of a kind is logged at once. What goes on, or comes back within an hour, is logged
//! at widening intervals, and each line sums up what was left out since the line before. A hub that
//! accepts and fails in turn costs two lines an hour in the long run.

use std::time::Duration;

use tokio::time::Instant;

use super::heartbeat_loop::{HeartbeatFailure, HeartbeatOutcome};
use crate::error::ErrorId;

/// First pause between two lines about the same thing.
const SOON: Duration = Duration::from_mins(1);
/// Longest pause between two lines about failures in a row.
const SELDOM: Duration = Duration::from_hours(24);
/// Longest pause between two lines about a hub that fails and accepts in turn. A hub that has accepted
/// for so long is well again, and nothing of its failures is remembered.
const CALM: Duration = Duration::from_hours(1);

/// Remembers what was logged.
#[derive(Debug, Default)]
pub(super) struct FailureLog {
    has_accepted: bool,
    trouble: Option<Trouble>,
}

/// Failures that have not been over for an hour yet.
#[derive(Debug)]
struct Trouble {
    /// Kinds of failure that were logged: two that alternate are not a change each time.
    kinds: Vec<ErrorId>,
    /// The failures in a row that go on; `None` while the hub accepts.
    row: Option<Row>,
    /// When the hub last accepted after a failure.
    well_since: Instant,
    failures: Pause,
    recoveries: Pause,
    /// The last line said that heartbeats fail, and they do not fail any more.
    owes_recovery: bool,
    left_out: LeftOut,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    since: Instant,
    tries: u64,
}

/// When there may be a line again: at widening intervals.
#[derive(Clone, Copy, Debug)]
struct Pause {
    last: Option<Instant>,
    pause: Duration,
}

/// What came since the last line.
#[derive(Clone, Copy, Debug, Default)]
struct LeftOut {
    failed: u64,
    accepted: u64,
}

/// Something to log.
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

    /// There is a line now. The pause after it is `factor` times the one before, up to `longest`.
    fn widen(&mut self, now: Instant, factor: u32, longest: Duration) {
        if self.last.replace(now).is_some() {
            self.pause = self.pause.saturating_mul(factor).min(longest);
        }
    }
}

impl FailureLog {
    /// Logs what came of a try, if it is news.
    pub(super) fn hear(&mut self, beat: &HeartbeatOutcome, next: Duration) {
        match self.line(beat, next, Instant::now()) {
            Some(Line::Good(text)) => tracing::info!("{text}"),
            Some(Line::Bad(text)) => tracing::warn!("{text}"),
            None => {
                if let HeartbeatOutcome::Missed(miss) = beat {
                    tracing::debug!("{}: {}", miss.error.what(), miss.error.cause());
                }
            }
        }
    }

    fn line(&mut self, beat: &HeartbeatOutcome, next: Duration, now: Instant) -> Option<Line> {
        match beat {
            HeartbeatOutcome::NotSent => None,
            HeartbeatOutcome::Accepted => self.accepted(now).map(Line::Good),
            HeartbeatOutcome::Missed(miss) => self.missed(miss, next, now).map(Line::Bad),
        }
    }

    fn accepted(&mut self, now: Instant) -> Option<String> {
        let is_first = !std::mem::replace(&mut self.has_accepted, true);
        let Some(trouble) = &mut self.trouble else {
            return is_first.then(|| "the hub takes this host's heartbeats".into());
        };
        let row = trouble.row.take();
        if row.is_some() {
            trouble.well_since = now;
        }
        let is_calm = now.saturating_duration_since(trouble.well_since) >= CALM;
        let line = if trouble.owes_recovery && trouble.recoveries.is_over(now) {
            trouble.recoveries.widen(now, 4, CALM);
            trouble.owes_recovery = false;
            let after = match row {
                Some(row) => format!(
                    ", after {} and {} that failed",
                    seconds(now.saturating_duration_since(row.since)),
                    row.tries
                ),
                None => format!(
                    ", for {}",
                    seconds(now.saturating_duration_since(trouble.well_since))
                ),
            };
            // The failures of this very row are told already.
            let row = row.map_or(0, |row| row.tries);
            let left_out = std::mem::take(&mut trouble.left_out).without(row);
            Some(format!("the hub takes heartbeats again{after}{left_out}"))
        } else {
            trouble.left_out.accepted = trouble.left_out.accepted.saturating_add(1);
            None
        };
        if is_calm {
            self.trouble = None;
        }
        line
    }

    fn missed(&mut self, miss: &HeartbeatFailure, next: Duration, now: Instant) -> Option<String> {
        let id = miss.error.id();
        // An accepted heartbeat may have come long ago: where the host slept, or the interval is long.
        self.trouble = self.trouble.take().filter(|trouble| {
            trouble.row.is_some() || now.saturating_duration_since(trouble.well_since) < CALM
        });
        let trouble = self.trouble.get_or_insert_with(|| Trouble {
            kinds: Vec::new(),
            row: None,
            well_since: now,
            failures: Pause::new(),
            recoveries: Pause::new(),
            owes_recovery: false,
            left_out: LeftOut::default(),
        });
        let row = match trouble.row {
            Some(row) => Row {
                tries: row.tries.saturating_add(1),
                ..row
            },
            None => {
                // An outage that begins now does not wait for the day that one before was down to.
                trouble.failures.pause = trouble.failures.pause.min(CALM);
                Row {
                    since: now,
                    tries: 1,
                }
            }
        };
        trouble.row = Some(row);
        let is_new = !trouble.kinds.contains(&id);
        if !is_new && !trouble.failures.is_over(now) {
            trouble.left_out.failed = trouble.left_out.failed.saturating_add(1);
            return None;
        }
        if is_new {
            trouble.kinds.push(id);
        }
        trouble.failures.widen(now, 2, SELDOM);
        trouble.owes_recovery = true;
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
            std::mem::take(&mut trouble.left_out)
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
            "; since the line before, {failed} more failed and {accepted} were taken"
        )
    }
}

fn seconds(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs().max(1)))
}

#[cfg(test)]
mod tests;
