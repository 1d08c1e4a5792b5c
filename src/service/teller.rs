//! The log of a service that may fail for weeks: each change is told, what goes on is told at
//! widening intervals, and nothing is told at each try.

use std::time::Duration;

use tokio::time::Instant;

use super::health::Health;
use super::rhythm::Beat;
use crate::error::ErrorId;

/// After what time a failure that goes on is told again, at first.
const SOON: Duration = Duration::from_mins(1);
/// And at last.
const SELDOM: Duration = Duration::from_hours(24);

/// Remembers what was told.
#[derive(Debug, Default)]
pub(super) struct Teller {
    trouble: Option<Trouble>,
    has_told_of_health: bool,
}

#[derive(Debug)]
struct Trouble {
    since: Instant,
    /// Kinds of failure that were told in this row: two that alternate are not a change each time.
    told: Vec<ErrorId>,
    again_at: Instant,
    pause: Duration,
}

impl Teller {
    /// Tells of what came of a try, if it is news.
    pub(super) fn hear(&mut self, beat: &Beat, health: &Health, next: Duration) {
        let now = Instant::now();
        match beat {
            Beat::Held => {}
            Beat::Accepted => {
                if let Some(trouble) = self.trouble.take() {
                    let tries = health.failure.as_ref().map_or(0, |failure| failure.tries);
                    tracing::info!(
                        "the hub takes heartbeats again, after {} and {tries} that failed",
                        seconds(now - trouble.since)
                    );
                } else if !self.has_told_of_health {
                    tracing::info!("the hub takes this host's heartbeats");
                }
                self.has_told_of_health = true;
            }
            Beat::Missed(miss) => {
                let id = miss.error.id();
                let trouble = self.trouble.get_or_insert_with(|| Trouble {
                    since: now,
                    told: Vec::new(),
                    again_at: now,
                    pause: SOON,
                });
                let is_new = !trouble.told.contains(&id);
                if !is_new && now < trouble.again_at {
                    tracing::debug!("{}: {}", miss.error.what(), miss.error.why());
                    return;
                }
                let lasts = if trouble.told.is_empty() {
                    String::new()
                } else {
                    format!(" (for {} now)", seconds(now - trouble.since))
                };
                tracing::warn!(
                    "a heartbeat failed{lasts}: {}; why: {}; mend: {}; next try in {}",
                    miss.error.what(),
                    miss.error.why(),
                    miss.error.next_step(),
                    seconds(next)
                );
                if is_new {
                    trouble.told.push(id);
                }
                trouble.again_at = now + trouble.pause;
                trouble.pause = (trouble.pause * 2).min(SELDOM);
            }
        }
    }
}

fn seconds(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs().max(1)))
}
