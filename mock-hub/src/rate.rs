//! How often an agent may call: a burst, and then so many in each heartbeat interval.
//!
//! Kept in memory: after a restart of the hub everybody starts afresh.

use crate::clock::Millis;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// How many calls may come at once.
const BURST: Millis = 10;
/// How many calls an interval allows in the long run, ten times what it takes.
const PER_INTERVAL: Millis = 10;
/// From so many agents on, those are forgotten who have their whole burst again.
const CROWD: usize = 10_000;

/// Who calls in an agent's name. They are counted apart, so that nobody without the agent's key
/// can use up what is the agent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// The host with the key, or any host while no key is pinned.
    Agent,
    /// Somebody with the token alone.
    Stranger,
}

/// The limits of all agents. For each, the moment at which its whole burst is there again.
pub(crate) struct Rate {
    period: Millis,
    full_again: Mutex<HashMap<(Uuid, Caller), Millis>>,
}

impl Rate {
    pub(crate) fn new(interval_secs: u32) -> Self {
        Self {
            period: Millis::from(interval_secs) * 1000 / PER_INTERVAL,
            full_again: Mutex::default(),
        }
    }

    /// Counts one call, or says for how many milliseconds it has come too early. `now` is the steady
    /// clock's, which never goes back.
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
        if all.len() >= CROWD {
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
        let rate = Rate::new(30);
        let (agent, now) = (Uuid::from_u128(1), 1_000_000);
        let count = |caller, now| rate.count(agent, caller, now);
        for _ in 0..10 {
            assert_eq!(count(Caller::Agent, now), Ok(()));
        }
        assert_eq!(count(Caller::Agent, now), Err(3_000));
        assert_eq!(count(Caller::Stranger, now), Ok(()), "counted apart");
        assert_eq!(rate.count(Uuid::from_u128(2), Caller::Agent, now), Ok(()));
        assert_eq!(count(Caller::Agent, now + 2_999), Err(1));
        assert_eq!(count(Caller::Agent, now + 3_000), Ok(()));
        assert_eq!(count(Caller::Agent, now + 3_000), Err(3_000));
        for _ in 0..10 {
            assert_eq!(count(Caller::Agent, now + 33_000), Ok(()), "all is back");
        }
        assert_eq!(count(Caller::Agent, now + 33_000), Err(3_000));
    }

    #[test]
    fn who_has_been_quiet_is_forgotten() {
        let rate = Rate::new(30);
        for n in 0..=CROWD as u128 {
            let now = 1_000_000 + Millis::try_from(n).unwrap() * 3_000;
            assert_eq!(rate.count(Uuid::from_u128(n), Caller::Agent, now), Ok(()));
        }
        assert!(rate.full_again.lock().unwrap().len() < 3);
    }
}
