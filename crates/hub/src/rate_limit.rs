//! The rate limit of an agent's calls: a burst, and then a number in each heartbeat interval.
//!
//! The counts are in memory: after a restart of the hub every agent has its full burst.

use crate::clock::Millis;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// The number of calls that may come at once.
const BURST: Millis = 10;
/// The number of calls that an interval allows in the long run: ten times what an agent sends.
const PER_INTERVAL: Millis = 10;
/// The number of entries at which those with a full burst are dropped.
const PRUNE_AT: usize = 10_000;

/// The caller in an agent's name. The two are counted apart, so that nobody without the agent's key
/// can use up the agent's own calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// The host with the signing key, or any host while no key is pinned.
    Agent,
    /// A caller with the token but not the key.
    TokenOnly,
}

/// The rate limits of all agents: for each, the moment at which its burst is full again.
pub(crate) struct RateLimiter {
    period: Millis,
    full_again: Mutex<HashMap<(Uuid, Caller), Millis>>,
}

impl RateLimiter {
    pub(crate) fn new(interval_secs: u32) -> Self {
        Self {
            period: Millis::from(interval_secs) * 1000 / PER_INTERVAL,
            full_again: Mutex::default(),
        }
    }

    /// Counts one call, or returns the milliseconds by which the call is too early. `now` is the time
    /// of the steady clock, which never goes back.
    pub(crate) fn count(&self, agent: Uuid, caller: Caller, now: Millis) -> Result<(), Millis> {
        // A panic elsewhere cannot leave the map half changed.
        let mut all = self
            .full_again
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = all.get(&(agent, caller)).copied().unwrap_or(now).max(now);
        let next = before.saturating_add(self.period);
        let early = next.saturating_sub(now.saturating_add(BURST * self.period));
        if early > 0 {
            return Err(early);
        }
        if all.len() >= PRUNE_AT {
            all.retain(|_, full_again| *full_again > now);
        }
        all.insert((agent, caller), next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_ten_an_interval() {
        let limiter = RateLimiter::new(30);
        let (agent, now) = (Uuid::from_u128(1), 1_000_000);
        let count = |caller, now| limiter.count(agent, caller, now);
        for _ in 0..10 {
            assert_eq!(count(Caller::Agent, now), Ok(()));
        }
        assert_eq!(count(Caller::Agent, now), Err(3_000));
        assert_eq!(count(Caller::TokenOnly, now), Ok(()), "counted apart");
        assert_eq!(
            limiter.count(Uuid::from_u128(2), Caller::Agent, now),
            Ok(())
        );
        assert_eq!(count(Caller::Agent, now + 2_999), Err(1));
        assert_eq!(count(Caller::Agent, now + 3_000), Ok(()));
        assert_eq!(count(Caller::Agent, now + 3_000), Err(3_000));
        for _ in 0..10 {
            assert_eq!(count(Caller::Agent, now + 33_000), Ok(()), "all is back");
        }
        assert_eq!(count(Caller::Agent, now + 33_000), Err(3_000));
    }

    #[test]
    fn a_silent_agent_is_dropped() {
        let limiter = RateLimiter::new(30);
        for n in 0..=PRUNE_AT as u128 {
            let now = 1_000_000 + Millis::try_from(n).unwrap() * 3_000;
            assert_eq!(
                limiter.count(Uuid::from_u128(n), Caller::Agent, now),
                Ok(())
            );
        }
        assert!(limiter.full_again.lock().unwrap().len() < 3);
    }
}
