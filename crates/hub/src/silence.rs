//! Silence of hosts: the rule, and the worker that finds a host which does not return.
//!
//! A host is silent when the hub has accepted no heartbeat of it for more than ten intervals. The
//! hub counts only time in which it could have received one: since its own start, and since the end
//! of its last pause. So after a restart each host has ten complete intervals to return.

use crate::anomalies::{Anomaly, CheckContext};
use crate::app::App;
use crate::clock::{Millis, millis};
use rusqlite::{Savepoint, named_params};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

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

    /// Returns whether a check is due, to one caller alone, and schedules the next one.
    fn take_due(&self, now: Millis) -> bool {
        let next = |next| (next <= now).then_some(now.saturating_add(self.period));
        self.next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }

    /// Returns the moment since which the hub receives heartbeats without a pause.
    fn receiving_since(&self) -> Millis {
        self.receiving_since.load(Ordering::Relaxed)
    }

    /// Records that the worker woke up late by this much. Later than an interval, the process was
    /// stopped, as by SIGSTOP or with its machine, and received nothing.
    fn woke_late(&self, late: Duration, interval: Millis, now: Millis) {
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

/// Runs the worker until the sender of `stop` sends or is dropped.
pub(crate) async fn work(app: Arc<App>, mut stop: watch::Receiver<()>) {
    loop {
        // Woken at least once in an interval, the worker recognises a pause of the hub.
        let next = app.silence.next.load(Ordering::Relaxed);
        let wait = (next - app.clock.steady()).clamp(1, app.interval_millis());
        let wait = Duration::from_millis(wait.unsigned_abs());
        let begin = Instant::now();
        tokio::select! {
            () = sleep(wait) => {}
            _ = stop.changed() => return,
        }
        let late = begin.elapsed().saturating_sub(wait);
        app.silence
            .woke_late(late, app.interval_millis(), app.clock.steady());
        check_if_due(&app);
    }
}

/// Queues a check if one is due. Every later request sees its result.
pub(crate) fn check_if_due(app: &App) {
    let (now, steady) = (app.clock.now(), app.clock.steady());
    if !app.silence.take_due(steady) {
        return;
    }
    let before = steady.saturating_sub(limit(app.interval_millis()));
    if app.silence.receiving_since() >= before {
        return;
    }
    app.database.queue(move |savepoint| {
        let found = find(savepoint, None, before, now, steady)?;
        if found > 0 {
            tracing::info!(hosts = found, "silent");
        }
        Ok(())
    });
}

/// Records an anomaly for each host whose last heartbeat came before `before`, or for one host.
/// A silence has one anomaly, however often it is found, and none more once that is resolved.
fn find(
    savepoint: &Savepoint<'_>,
    agent: Option<&str>,
    before: Millis,
    now: Millis,
    steady: Millis,
) -> rusqlite::Result<usize> {
    let one = match agent {
        None => "AND :agent IS NULL",
        Some(_) => "AND id = :agent",
    };
    savepoint
        .prepare_cached(&format!(
            "INSERT INTO anomalies (agent_id, kind, severity, detail, source_ip, silent_since,
                                    first_seen_at, last_seen_at)
             SELECT id, :kind, :severity,
                    iif(last_heartbeat IS NULL, 'no heartbeat since the enrolment at ',
                        'no heartbeat since ') || rfc3339(heartbeat_at + :now - :steady),
                    last_source_ip, heartbeat_at, :now, :now
               FROM agents
              WHERE heartbeat_at < :before {one}
                AND NOT EXISTS (SELECT 1 FROM anomalies
                                 WHERE agent_id = agents.id AND kind = :kind
                                   AND silent_since = heartbeat_at)
                 ON CONFLICT (agent_id, kind) WHERE resolved_at IS NULL DO UPDATE
                SET occurrences = occurrences + 1, detail = excluded.detail,
                    source_ip = excluded.source_ip, silent_since = excluded.silent_since,
                    last_seen_at = excluded.last_seen_at"
        ))?
        .execute(named_params! {
            ":kind": Anomaly::Cadence.kind(),
            ":severity": Anomaly::Cadence.severity(),
            ":agent": agent,
            ":before": before,
            ":now": now,
            ":steady": steady,
        })
}

/// Records the end of an agent's silence, if there was one, with the heartbeat that ends it.
///
/// `last` is the moment of the heartbeat before. The first heartbeat after an enrolment may come as
/// late as its operator starts the service, unless the worker has found the silence.
pub(crate) fn end(
    savepoint: &Savepoint<'_>,
    context: &CheckContext<'_>,
    last: Millis,
    is_first: bool,
) -> rusqlite::Result<()> {
    let limit = limit(context.app.interval_millis());
    let before = context.steady.saturating_sub(limit);
    if last >= before {
        return Ok(());
    }
    let agent = context.agent_id.to_string();
    if !is_first && context.app.silence.receiving_since() < before {
        find(savepoint, Some(&agent), before, context.now, context.steady)?;
    }
    savepoint
        .prepare_cached(
            "UPDATE anomalies SET detail = :detail, source_ip = :source, last_seen_at = :now
              WHERE agent_id = :agent AND kind = :kind AND silent_since = :last
                AND resolved_at IS NULL",
        )?
        .execute(named_params! {
            ":agent": agent,
            ":kind": Anomaly::Cadence.kind(),
            ":last": last,
            ":detail": format!("no heartbeat for {} s", (context.steady - last) / 1000),
            ":source": context.source.to_string(),
            ":now": context.now,
        })?;
    Ok(())
}

/// Moves heartbeats from the future to now. There are such when the clock was set back while the
/// hub was down, and their hosts would not become silent until then.
pub(crate) fn forget_the_future(savepoint: &Savepoint<'_>, now: Millis) -> rusqlite::Result<()> {
    for sql in [
        // First, as a silence that is recorded stays the same silence.
        "UPDATE anomalies SET silent_since = ?1
          WHERE silent_since > ?1
            AND silent_since = (SELECT heartbeat_at FROM agents WHERE id = agent_id)",
        "UPDATE agents SET heartbeat_at = ?1 WHERE heartbeat_at > ?1",
    ] {
        savepoint.execute(sql, [now])?;
    }
    Ok(())
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
