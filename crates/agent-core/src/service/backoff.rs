//! When the next heartbeat goes out.
//!
//! While the hub takes them: on its interval, a little sooner or later. While it is away: with full
//! jitter under a ceiling of two intervals, so a fleet asks no more often than it would with the hub
//! up, and is back within two intervals, spread over them. While it refuses: ever more slowly.

use std::time::Duration;

use super::heartbeat_loop::HeartbeatOutcome;
use crate::environment::Environment;

/// First ceiling of the pause while the hub is away.
const FIRST: Duration = Duration::from_secs(1);
/// Longest that a hub's `Retry-After` is believed: a mistake there must not silence a fleet.
const BELIEVED: Duration = Duration::from_hours(1);
/// Longest pause while the hub refuses, unless the interval is longer.
const SLOWEST: Duration = Duration::from_mins(10);
/// Pause while the key changes hands.
const MOMENT: Duration = Duration::from_secs(1);
/// Longest interval that the pauses are computed from, whatever a hub or a file says.
const LONGEST: Duration = Duration::from_hours(24);
/// Share of the interval by which a heartbeat is sooner or later.
const JITTER: f64 = 0.05;

/// Chooses the pauses.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Ceiling of the last pause while the hub was away.
    away: Option<Duration>,
    /// Ceiling of the last pause while the hub refused.
    refused: Option<Duration>,
}

impl Pace {
    /// How long to wait after `beat`.
    pub(super) fn after(
        &mut self,
        beat: &HeartbeatOutcome,
        interval: Duration,
        environment: &Environment,
    ) -> Duration {
        let interval = interval.clamp(FIRST, LONGEST);
        match beat {
            HeartbeatOutcome::Accepted => {
                *self = Self::default();
                interval.mul_f64(1.0 - JITTER)
                    + environment.random_up_to(interval.mul_f64(2.0 * JITTER))
            }
            HeartbeatOutcome::NotSent => MOMENT,
            HeartbeatOutcome::Missed(miss) if miss.is_refusal => {
                let longest = SLOWEST.max(interval);
                let ceiling = self.refused.map_or(interval, |last| last * 2).min(longest);
                self.refused = Some(ceiling);
                ceiling / 2 + environment.random_up_to(ceiling / 2)
            }
            HeartbeatOutcome::Missed(miss) => {
                let longest = FIRST.max(interval * 2);
                let ceiling = self.away.map_or(FIRST, |last| last * 2).min(longest);
                self.away = Some(ceiling);
                let asked = miss.retry_after.unwrap_or_default().min(BELIEVED);
                asked + environment.random_up_to(ceiling)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::{Error, ErrorId};
    use crate::service::heartbeat_loop::HeartbeatFailure;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn missed(is_refusal: bool, retry_after: Option<u64>) -> HeartbeatOutcome {
        HeartbeatOutcome::Missed(HeartbeatFailure {
            error: Error::new(ErrorId::Unreachable, "no connection"),
            retry_after: retry_after.map(Duration::from_secs),
            is_refusal,
        })
    }

    #[test]
    fn keeps_the_hubs_interval_with_a_little_jitter() {
        let environment = Environment::real([]).with_seed(1);
        let mut pace = Pace::default();
        let pauses: Vec<_> = (0..200)
            .map(|_| {
                pace.after(&HeartbeatOutcome::Accepted, INTERVAL, &environment)
                    .as_secs_f64()
            })
            .collect();
        assert!(pauses.iter().all(|pause| (28.5..=31.5).contains(pause)));
        let mean = pauses.iter().sum::<f64>() / 200.0;
        assert!((29.5..30.5).contains(&mean), "{mean}");
        assert!(pauses.iter().any(|pause| *pause < 29.0));
        assert!(pauses.iter().any(|pause| *pause > 31.0));
    }

    #[test]
    fn an_absent_hub_is_asked_within_two_intervals_however_long_it_is_away() {
        let environment = Environment::real([]).with_seed(2);
        let mut pace = Pace::default();
        let pauses: Vec<_> = (0..500)
            .map(|_| pace.after(&missed(false, None), INTERVAL, &environment))
            .collect();
        assert!(pauses[0] <= FIRST);
        assert!(pauses.iter().all(|pause| *pause <= INTERVAL * 2));
        let late = &pauses[10..];
        assert!(late.iter().any(|pause| *pause > INTERVAL));
        assert!(late.iter().any(|pause| *pause < INTERVAL / 4), "no jitter");
        pace.after(&HeartbeatOutcome::Accepted, INTERVAL, &environment);
        assert!(pace.after(&missed(false, None), INTERVAL, &environment) <= FIRST);
    }

    #[test]
    fn retry_after_is_the_least_pause_and_never_a_silence() {
        let environment = Environment::real([]).with_seed(3);
        let mut pace = Pace::default();
        let pause = pace.after(&missed(false, Some(120)), INTERVAL, &environment);
        assert!((120..=121).contains(&pause.as_secs()), "{pause:?}");
        let pause = pace.after(&missed(false, Some(u64::MAX)), INTERVAL, &environment);
        assert!(pause <= BELIEVED + INTERVAL * 2, "{pause:?}");
    }

    #[test]
    fn a_refusal_is_asked_about_ever_more_slowly() {
        let environment = Environment::real([]).with_seed(4);
        let mut pace = Pace::default();
        let pauses: Vec<_> = (0..20)
            .map(|_| pace.after(&missed(true, None), INTERVAL, &environment))
            .collect();
        assert!(pauses[0] >= INTERVAL / 2 && pauses[0] <= INTERVAL);
        assert!(pauses[6..].iter().all(|pause| *pause >= SLOWEST / 2));
        assert!(pauses.iter().all(|pause| *pause <= SLOWEST));
    }

    proptest! {
        /// Whatever interval a hub or a file says, and however long a hub asks to wait.
        #[test]
        fn every_pause_is_one_that_ends(
            interval: u64,
            beats in proptest::collection::vec((any::<bool>(), any::<Option<u64>>()), 1..30),
        ) {
            let environment = Environment::real([]).with_seed(5);
            let mut pace = Pace::default();
            let interval = Duration::from_secs(interval);
            for (is_refusal, retry_after) in beats {
                let pause = pace.after(&missed(is_refusal, retry_after), interval, &environment);
                prop_assert!(pause <= BELIEVED + 2 * LONGEST, "{:?}", pause);
            }
            let pause = pace.after(&HeartbeatOutcome::Accepted, interval, &environment);
            prop_assert!(pause > Duration::ZERO && pause <= 2 * LONGEST, "{:?}", pause);
        }
    }
}
