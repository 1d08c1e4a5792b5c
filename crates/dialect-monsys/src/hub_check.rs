//! The times at which the service's step asks the hub whether it still knows this host.
//!
//! A hub that has forgotten its hosts answers 401 to all of them. If each host tried to return at once, and again
//! at each 401, the hub would have the whole fleet at its door. So the first try comes after a random part of the
//! setting `readmission_interval`, and two tries are at least that interval apart (contract, section 10).

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use agent_core::clock;
use agent_core::environment::Environment;

/// The last time that the step asked the hub, and the earliest next time. Only the step writes it, so the
/// service's user cannot make it earlier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubCheck {
    /// Time of the request, RFC 3339.
    pub at: String,
    /// Time (RFC 3339) before which the step asks no hub again.
    pub not_before: String,
}

impl HubCheck {
    /// Returns the record of a request now. The next one is an interval away, and a random quarter of it more.
    #[must_use]
    pub fn now(interval: Duration, environment: &Environment) -> Self {
        let now = environment.now();
        let pause = interval + environment.random_up_to(interval / 4);
        Self {
            at: clock::rfc3339_millis(now),
            not_before: clock::rfc3339_millis(now.checked_add(pause).unwrap_or(now)),
        }
    }

    /// Returns the time until the next request. It is zero when the host's clock was set to a time before the
    /// last one, and never longer than an interval and a quarter: otherwise a wrong clock could stop the host
    /// for years.
    #[must_use]
    pub fn pause_left(&self, interval: Duration, now: SystemTime) -> Duration {
        let time = |text: &str| humantime::parse_rfc3339(text).ok();
        if time(&self.at).is_none_or(|at| at > now) {
            return Duration::ZERO;
        }
        time(&self.not_before)
            .and_then(|next| next.duration_since(now).ok())
            .unwrap_or_default()
            .min(interval + interval / 4)
    }
}

/// Returns the time until the service requests a return to the hub, after a hub has forgotten this host: what is
/// left of the interval since the last request, or else a random part of the interval. The last request of an old
/// fleet was long ago on every host, and these hosts must not return all at once either.
#[must_use]
pub(crate) fn pause(
    last: Option<&HubCheck>,
    interval: Duration,
    environment: &Environment,
) -> Duration {
    let left = last.map(|last| last.pause_left(interval, environment.now()));
    left.filter(|left| !left.is_zero())
        .unwrap_or_else(|| environment.random_up_to(interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn a_fleet_returns_spread_over_the_interval_and_each_host_once_in_it() {
        let mut quarters = [0_u32; 4];
        for seed in 0..1000 {
            let environment = Environment::real([]).with_seed(seed);
            let first = pause(None, HOUR, &environment);
            assert!(first < HOUR);
            quarters[usize::try_from(first.as_secs() / 900).unwrap()] += 1;
            let check = HubCheck::now(HOUR, &environment);
            let next = pause(Some(&check), HOUR, &environment);
            assert!(next + Duration::from_secs(1) > HOUR, "{next:?}");
            assert!(next <= HOUR + HOUR / 4, "{next:?}");
        }
        // 250 in each, with a standard deviation of 14.
        assert!(
            quarters.iter().all(|count| (180..320).contains(count)),
            "{quarters:?}"
        );
    }

    #[test]
    fn hosts_whose_last_request_is_old_return_spread_too() {
        let firsts: Vec<_> = (0..100)
            .map(|seed| {
                let environment = Environment::real([]).with_seed(seed);
                let old = HubCheck {
                    at: "2020-01-01T00:00:00Z".into(),
                    not_before: "2020-01-01T01:00:00Z".into(),
                };
                pause(Some(&old), HOUR, &environment)
            })
            .collect();
        assert!(firsts.iter().all(|first| *first < HOUR));
        let late = firsts.iter().filter(|first| **first > HOUR / 2).count();
        // 50, with a standard deviation of 5.
        assert!((25..=75).contains(&late), "{late}");
    }

    #[test]
    fn a_clock_that_was_set_stops_no_host() {
        let environment = Environment::real([]).with_seed(1);
        let check = HubCheck::now(HOUR, &environment);
        let now = environment.now();
        assert_eq!(check.pause_left(HOUR, now - 100 * HOUR), Duration::ZERO);
        assert_eq!(check.pause_left(HOUR, now + 2 * HOUR), Duration::ZERO);
        let broken = HubCheck {
            not_before: "9999-01-01T00:00:00Z".into(),
            ..check
        };
        assert_eq!(broken.pause_left(HOUR, now + HOUR), HOUR + HOUR / 4);
    }
}
