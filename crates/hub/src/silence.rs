//! Silence of hosts: the rule, and the worker that finds a host which does not return.
//!
//! A host is silent when the hub has accepted no heartbeat of it for more than ten intervals. The
//! hub counts only time in which it could have received one: since its own start, and since the end
//! of its last pause. So after a restart each host has ten complete intervals to return.

use crate::anomalies::{Anomaly, CheckContext};
use crate::app::App;
use crate::clock::Millis;
use crate::silence_schedule::limit;
use rusqlite::{Savepoint, named_params};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Runs the worker until the sender of `stop` sends or is dropped.
pub(crate) async fn work(app: Arc<App>, mut stop: watch::Receiver<()>) {
    loop {
        // Woken at least once in an interval, the worker recognises a pause of the hub.
        let next = app.silence.next();
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
