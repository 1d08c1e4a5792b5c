//! The times at which the worker checks for silent hosts, and the time that counts as their silence.

use crate::clock::{Millis, millis};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// The number of intervals without a heartbeat after which a host is silent.
const INTERVALS: Millis = 10;

/// The schedule of the worker, by the steady clock.
pub(crate) struct Schedule {
    period: Millis,
    next: AtomicI64,
    /// The moment since which the hub receives heartbeats without a pause.
    receiving_since: AtomicI64,
}

impl Schedule {
    /// Makes the schedule of a hub that starts now. The first check is due as soon as a host can be
    /// silent, so that a hub which restarts often checks too.
    pub(crate) fn new(now: Millis, period_secs: u32, interval: Millis) -> Self {
        let period = Millis::from(period_secs.max(1)) * 1000;
        Self {
            period,
            next: AtomicI64::new(now + period.min(limit(interval) + 1)),
            receiving_since: AtomicI64::new(now),
        }
    }

    /// Returns the time of the next check.
    pub(crate) fn next(&self) -> Millis {
        self.next.load(Ordering::Relaxed)
    }

    /// Returns whether a check is due, to one caller alone, and schedules the next one.
    pub(crate) fn take_due(&self, now: Millis) -> bool {
        let next = |next| (next <= now).then_some(now.saturating_add(self.period));
        self.next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }

    /// Returns the moment since which the hub receives heartbeats without a pause.
    pub(crate) fn receiving_since(&self) -> Millis {
        self.receiving_since.load(Ordering::Relaxed)
    }

    /// Records that the worker woke up late by this much. Later than an interval, the process was
    /// stopped, as by SIGSTOP or with its machine, and received nothing.
    pub(crate) fn woke_late(&self, late: Duration, interval: Millis, now: Millis) {
        if millis(late) > interval {
            tracing::warn!(
                ?late,
                "the hub was paused: no silence of hosts counts until now"
            );
            self.receiving_since.store(now, Ordering::Relaxed);
        }
    }
}

/// Returns the longest time without a heartbeat that is not silence.
pub(crate) fn limit(interval: Millis) -> Millis {
    interval * INTERVALS
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Millis = 1_000;
    const INTERVAL: Millis = 30 * SECOND;

    #[test]
    fn the_first_check_is_due_when_a_host_can_be_silent_and_then_one_a_period() {
        let schedule = Schedule::new(0, 600, INTERVAL);
        assert!(!schedule.take_due(300 * SECOND));
        assert!(schedule.take_due(301 * SECOND));
        assert!(!schedule.take_due(301 * SECOND), "one caller alone");
        assert!(!schedule.take_due(900 * SECOND));
        assert!(schedule.take_due(5_000 * SECOND));
        assert!(
            !schedule.take_due(5_599 * SECOND),
            "missed ones are not made up for"
        );
        assert!(schedule.take_due(5_600 * SECOND));

        let often = Schedule::new(0, 5, INTERVAL);
        assert!(often.take_due(5 * SECOND));
    }

    #[test]
    fn time_in_which_the_hub_was_paused_counts_for_no_host() {
        let schedule = Schedule::new(0, 600, INTERVAL);
        schedule.woke_late(Duration::from_secs(30), INTERVAL, 60 * SECOND);
        assert_eq!(
            schedule.receiving_since(),
            0,
            "a busy machine is not a pause"
        );
        schedule.woke_late(Duration::from_secs(31), INTERVAL, 90 * SECOND);
        assert_eq!(schedule.receiving_since(), 90 * SECOND);
    }
}
