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

/// Something to tell.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Good(String),
    Bad(String),
}

impl Teller {
    /// Tells of what came of a try, if it is news.
    pub(super) fn hear(&mut self, beat: &Beat, health: &Health, next: Duration) {
        match self.news(beat, health, next) {
            Some(News::Good(text)) => tracing::info!("{text}"),
            Some(News::Bad(text)) => tracing::warn!("{text}"),
            None => {
                if let Beat::Missed(miss) = beat {
                    tracing::debug!("{}: {}", miss.error.what(), miss.error.why());
                }
            }
        }
    }

    fn news(&mut self, beat: &Beat, health: &Health, next: Duration) -> Option<News> {
        let now = Instant::now();
        match beat {
            Beat::Held => None,
            Beat::Accepted => {
                let is_first = !std::mem::replace(&mut self.has_told_of_health, true);
                match self.trouble.take() {
                    Some(trouble) => {
                        let tries = health.failure.as_ref().map_or(0, |failure| failure.tries);
                        Some(News::Good(format!(
                            "the hub takes heartbeats again, after {} and {tries} that failed",
                            seconds(now - trouble.since)
                        )))
                    }
                    None => {
                        is_first.then(|| News::Good("the hub takes this host's heartbeats".into()))
                    }
                }
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
                    return None;
                }
                let lasts = if trouble.told.is_empty() {
                    String::new()
                } else {
                    format!(" (for {} now)", seconds(now - trouble.since))
                };
                if is_new {
                    trouble.told.push(id);
                }
                trouble.again_at = now + trouble.pause;
                trouble.pause = (trouble.pause * 2).min(SELDOM);
                Some(News::Bad(format!(
                    "a heartbeat failed{lasts}: {}; why: {}; mend: {}; next try in {}",
                    miss.error.what(),
                    miss.error.why(),
                    miss.error.next_step(),
                    seconds(next)
                )))
            }
        }
    }
}

fn seconds(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs().max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::service::rhythm::Miss;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn missed(id: ErrorId) -> Beat {
        Beat::Missed(Miss {
            error: Error::new(id, "why"),
            retry_after: None,
            is_refusal: false,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_month_without_the_hub_is_told_in_a_few_lines() {
        let (mut teller, health) = (Teller::default(), Health::default());
        let mut told = Vec::new();
        for number in 0..30 * 24 * 120_u32 {
            // Two causes that take turns are no change each time.
            let id = if number % 2 == 0 {
                ErrorId::Unreachable
            } else {
                ErrorId::Untrusted
            };
            if teller.news(&missed(id), &health, INTERVAL).is_some() {
                told.push(INTERVAL * number);
            }
            tokio::time::advance(INTERVAL).await;
        }
        assert_eq!(told[..2], [Duration::ZERO, INTERVAL], "each cause at once");
        assert!((30..50).contains(&told.len()), "{told:?}");
        let last: Vec<_> = told[told.len() - 2..].to_vec();
        assert_eq!(last[1].saturating_sub(last[0]), SELDOM);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_change_is_told_and_a_new_failure_is_one() {
        let (mut teller, health) = (Teller::default(), Health::default());
        let mut tells = |beat: &Beat| teller.news(beat, &health, INTERVAL).is_some();
        assert!(tells(&Beat::Accepted));
        assert!(!tells(&Beat::Accepted));
        assert!(tells(&missed(ErrorId::Unreachable)));
        assert!(!tells(&missed(ErrorId::Unreachable)));
        assert!(tells(&missed(ErrorId::Rejected)));
        assert!(!tells(&Beat::Held));
        assert!(tells(&Beat::Accepted));
        assert!(!tells(&Beat::Accepted));
        assert!(tells(&missed(ErrorId::Unreachable)));
    }
}
