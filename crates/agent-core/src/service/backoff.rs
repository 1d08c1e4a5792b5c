//! The pauses between heartbeats.
//!
//! While the hub accepts heartbeats, a pause is the hub's interval with a little jitter. While the hub is not
//! reachable, pauses have full jitter below a ceiling of two intervals: the hosts then send as often as with
//! a reachable hub, and come back spread over two intervals. While the hub refuses, pauses double.

use std::time::Duration;

use super::heartbeat::HeartbeatOutcome;
use crate::environment::Environment;

/// First ceiling of the pause while the hub is not reachable.
const FIRST: Duration = Duration::from_secs(1);
/// Longest `Retry-After` that is honoured: a wrong value must not stop the heartbeats of all hosts.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);
/// Longest pause while the hub refuses, unless the interval is longer.
const LONGEST_REFUSED: Duration = Duration::from_mins(10);
/// Pause after a heartbeat that was not sent, because the key or the credential is being changed.
const NOT_SENT_PAUSE: Duration = Duration::from_secs(1);
/// Longest interval that the pauses are computed from, even when a hub or a file has a longer one.
const LONGEST_INTERVAL: Duration = Duration::from_hours(24);
/// Largest share of the interval by which a heartbeat is earlier or later.
const JITTER: f64 = 0.05;

/// Chooses the pause after each heartbeat.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// Ceiling of the last pause while the hub was not reachable.
    away: Option<Duration>,
    /// Ceiling of the last pause while the hub refused.
    refused: Option<Duration>,
}

impl Backoff {
    /// Returns the pause after a heartbeat with this outcome.
    pub(super) fn after(
        &mut self,
        outcome: &HeartbeatOutcome,
        interval: Duration,
        environment: &Environment,
    ) -> Duration {
        let interval = interval.clamp(FIRST, LONGEST_INTERVAL);
        match outcome {
            HeartbeatOutcome::Accepted => {
                *self = Self::default();
                interval.mul_f64(1.0 - JITTER)
                    + environment.random_up_to(interval.mul_f64(2.0 * JITTER))
            }
            HeartbeatOutcome::NotSent => NOT_SENT_PAUSE,
            HeartbeatOutcome::Missed(miss) if miss.is_refusal => {
                let longest = LONGEST_REFUSED.max(interval);
                let ceiling = self.refused.map_or(interval, |last| last * 2).min(longest);
                self.refused = Some(ceiling);
                ceiling / 2 + environment.random_up_to(ceiling / 2)
            }
            HeartbeatOutcome::Missed(miss) => {
                let longest = FIRST.max(interval * 2);
                let ceiling = self.away.map_or(FIRST, |last| last * 2).min(longest);
                self.away = Some(ceiling);
                let requested = miss
                    .retry_after
                    .unwrap_or_default()
                    .min(LONGEST_RETRY_AFTER);
                requested + environment.random_up_to(ceiling)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::{Error, ErrorId};
    use crate::service::heartbeat::HeartbeatFailure;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn missed(is_refusal: bool, retry_after: Option<u64>) -> HeartbeatOutcome {
        HeartbeatOutcome::Missed(HeartbeatFailure {
            error: Error::new(ErrorId::Unreachable, "no connection"),
            retry_after: retry_after.map(Duration::from_secs),
            is_refusal,
        })
    }

    #[test]
    fn pauses_for_the_hubs_interval_with_a_little_jitter() {
        let environment = Environment::real([]).with_seed(1);
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..200)
            .map(|_| {
                backoff
                    .after(&HeartbeatOutcome::Accepted, INTERVAL, &environment)
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
    fn an_unreachable_hub_gets_a_heartbeat_within_two_intervals_after_any_time() {
        let environment = Environment::real([]).with_seed(2);
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..500)
            .map(|_| backoff.after(&missed(false, None), INTERVAL, &environment))
            .collect();
        assert!(pauses[0] <= FIRST);
        assert!(pauses.iter().all(|pause| *pause <= INTERVAL * 2));
        let late = &pauses[10..];
        assert!(late.iter().any(|pause| *pause > INTERVAL));
        assert!(late.iter().any(|pause| *pause < INTERVAL / 4), "no jitter");
        backoff.after(&HeartbeatOutcome::Accepted, INTERVAL, &environment);
        assert!(backoff.after(&missed(false, None), INTERVAL, &environment) <= FIRST);
    }

    #[test]
    fn retry_after_is_the_least_pause_up_to_an_hour() {
        let environment = Environment::real([]).with_seed(3);
        let mut backoff = Backoff::default();
        let pause = backoff.after(&missed(false, Some(120)), INTERVAL, &environment);
        assert!((120..=121).contains(&pause.as_secs()), "{pause:?}");
        let pause = backoff.after(&missed(false, Some(u64::MAX)), INTERVAL, &environment);
        assert!(pause <= LONGEST_RETRY_AFTER + INTERVAL * 2, "{pause:?}");
    }

    #[test]
    fn pauses_double_while_the_hub_refuses() {
        let environment = Environment::real([]).with_seed(4);
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..20)
            .map(|_| backoff.after(&missed(true, None), INTERVAL, &environment))
            .collect();
        assert!(pauses[0] >= INTERVAL / 2 && pauses[0] <= INTERVAL);
        assert!(
            pauses[6..]
                .iter()
                .all(|pause| *pause >= LONGEST_REFUSED / 2)
        );
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_REFUSED));
    }

    proptest! {
        /// With any interval and any `Retry-After`.
        #[test]
        fn every_pause_has_an_end(
            interval: u64,
            failures in proptest::collection::vec((any::<bool>(), any::<Option<u64>>()), 1..30),
        ) {
            let environment = Environment::real([]).with_seed(5);
            let mut backoff = Backoff::default();
            let interval = Duration::from_secs(interval);
            for (is_refusal, retry_after) in failures {
                let pause = backoff.after(&missed(is_refusal, retry_after), interval, &environment);
                prop_assert!(pause <= LONGEST_RETRY_AFTER + 2 * LONGEST_INTERVAL, "{:?}", pause);
            }
            let pause = backoff.after(&HeartbeatOutcome::Accepted, interval, &environment);
            prop_assert!(pause > Duration::ZERO && pause <= 2 * LONGEST_INTERVAL, "{:?}", pause);
        }
    }
}
