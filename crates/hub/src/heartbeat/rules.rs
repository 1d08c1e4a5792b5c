//! The rules by which a heartbeat is refused or recorded as an anomaly (see docs/protocol.md).

use super::body::Heartbeat;
use crate::anomalies::{Anomaly, CheckContext};
use crate::clock::{Millis, rfc3339};
use crate::database::{TransactionError, to_json};
use crate::refusal::Refusal;
use crate::secret::sha256;
use crate::silence;
use rusqlite::{Savepoint, named_params, params};

/// The most by which a host's clock may be off, and so the validity of a signed body.
const CLOCK_TOLERANCE: Millis = 5 * 60 * 1000;
/// The number of intervals over which the cadence is measured.
const INTERVALS: Millis = 10;
/// The most heartbeats in that time without an anomaly: two hosts with one key send 20.
const MAX_HEARTBEATS: i64 = 15;
/// The number of equal metrics in a row that is an anomaly: real metrics change.
const FLAT_HEARTBEATS: i64 = 10;

/// Checks that a host's clock and the hub's agree.
///
/// A body from outside of the tolerance is a replay, or the host's clock is wrong. Nothing in the
/// body shows which, so the hub refuses it, and the message says by how much the clock is off.
pub(crate) fn check_clock(
    savepoint: &Savepoint<'_>,
    context: &CheckContext<'_>,
    captured_at: Millis,
) -> Result<(), TransactionError> {
    let drift = captured_at.saturating_sub(context.now);
    if drift.saturating_abs() <= CLOCK_TOLERANCE {
        return Ok(());
    }
    let side = if drift < 0 { "behind" } else { "ahead of" };
    let off = format!(
        "captured_at is {} s {side} the hub's clock",
        drift.saturating_abs() / 1000
    );
    context.record(savepoint, Anomaly::ClockDrift, &off)?;
    Err(Refusal::clock_drift(&off, &rfc3339(context.now)).into())
}

/// Checks that a body is new. The hub remembers the hash of each body that it has accepted, as long
/// as [`check_clock`] would accept the body.
pub(crate) fn check_new(
    savepoint: &Savepoint<'_>,
    context: &CheckContext<'_>,
    body: &[u8],
) -> Result<(), TransactionError> {
    let agent = context.agent_id.to_string();
    let window = context.app.interval_millis() * INTERVALS;
    // A body that arrived at `t` has a time of at most `t` and the tolerance, and is stale as long
    // after that. Times in this table are the steady clock's: setting the hub's clock makes no replay new.
    let retention = window.max(2 * CLOCK_TOLERANCE);
    savepoint
        .prepare_cached("DELETE FROM heartbeats WHERE agent_id = ?1 AND received_at < ?2")?
        .execute(params![agent, context.steady.saturating_sub(retention)])?;
    let added = savepoint
        .prepare_cached(
            "INSERT INTO heartbeats (agent_id, body_sha256, received_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO NOTHING",
        )?
        .execute(params![agent, sha256(body), context.steady])?;
    if added == 0 {
        let detail = "a heartbeat came a second time, byte for byte";
        context.record(savepoint, Anomaly::Cadence, detail)?;
        return Err(Refusal::replayed().into());
    }
    Ok(())
}

/// The state of an agent's heartbeats that the next one is compared with.
#[derive(Debug)]
pub(crate) struct HeartbeatHistory {
    /// The moment of the last heartbeat, or of the enrolment.
    last_at: Option<Millis>,
    is_first: bool,
    metrics: Option<Vec<u8>>,
    alike: i64,
}

impl HeartbeatHistory {
    /// Loads the state of the agent.
    pub(crate) fn load(
        savepoint: &Savepoint<'_>,
        context: &CheckContext<'_>,
    ) -> rusqlite::Result<Self> {
        savepoint
            .prepare_cached(
                "SELECT heartbeat_at, last_heartbeat IS NULL, metrics_sha256, metrics_alike
                   FROM agents WHERE id = ?1",
            )?
            .query_row([context.agent_id.to_string()], |row| {
                Ok(Self {
                    last_at: row.get(0)?,
                    is_first: row.get(1)?,
                    metrics: row.get(2)?,
                    alike: row.get(3)?,
                })
            })
    }

    /// Records an anomaly for silence, and for too many heartbeats.
    pub(crate) fn check_cadence(
        &self,
        savepoint: &Savepoint<'_>,
        context: &CheckContext<'_>,
    ) -> rusqlite::Result<()> {
        let window = context.app.interval_millis() * INTERVALS;
        if let Some(last) = self.last_at {
            silence::end(savepoint, context, last, self.is_first)?;
        }
        let recent: i64 = savepoint
            .prepare_cached(
                // After a restart with the clock set back, there are rows from the future.
                "SELECT count(*) FROM heartbeats
                  WHERE agent_id = ?1 AND received_at > ?2 AND received_at <= ?3",
            )?
            .query_row(
                params![
                    context.agent_id.to_string(),
                    context.steady.saturating_sub(window),
                    context.steady
                ],
                |row| row.get(0),
            )?;
        if recent > MAX_HEARTBEATS {
            let detail = format!("{recent} heartbeats in {} s", window / 1000);
            context.record(savepoint, Anomaly::Cadence, &detail)?;
        }
        Ok(())
    }

    /// Records an anomaly if the metrics do not change. A host that sends none is not suspicious.
    pub(crate) fn check_metrics(
        &mut self,
        savepoint: &Savepoint<'_>,
        context: &CheckContext<'_>,
        heartbeat: &Heartbeat,
    ) -> rusqlite::Result<()> {
        let metrics = heartbeat.metrics().map(|metrics| to_json(&metrics));
        let hash = metrics
            .transpose()?
            .map(|metrics| sha256(metrics.as_bytes()).to_vec());
        self.alike = match &hash {
            Some(_) if hash == self.metrics => self.alike.saturating_add(1),
            Some(_) => 1,
            None => 0,
        };
        self.metrics = hash;
        if self.alike >= FLAT_HEARTBEATS {
            let detail = format!("{} heartbeats with the very same metrics", self.alike);
            context.record(savepoint, Anomaly::FlatMetrics, &detail)?;
        }
        Ok(())
    }

    /// Stores the heartbeat and the new state.
    pub(crate) fn store(
        &self,
        savepoint: &Savepoint<'_>,
        context: &CheckContext<'_>,
        heartbeat: &Heartbeat,
    ) -> rusqlite::Result<()> {
        savepoint
            .prepare_cached(
                "UPDATE agents
                    SET last_heartbeat = :heartbeat, agent_version = :version, heartbeat_at = :steady,
                        metrics_sha256 = :metrics, metrics_alike = :alike
                  WHERE id = :id",
            )?
            .execute(named_params! {
                ":id": context.agent_id.to_string(),
                ":heartbeat": to_json(heartbeat)?,
                ":version": heartbeat.agent_version,
                ":steady": context.steady,
                ":metrics": self.metrics,
                ":alike": self.alike,
            })?;
        Ok(())
    }
}

/// Records an anomaly if the agent's version is older than the one before.
pub(crate) fn check_version(
    savepoint: &Savepoint<'_>,
    context: &CheckContext<'_>,
    before: &str,
    now: &str,
) -> rusqlite::Result<()> {
    if Version::of(now) < Version::of(before) {
        let detail = format!("from {before:?} to {now:?}");
        context.record(savepoint, Anomaly::VersionDowngrade, &detail)?;
    }
    Ok(())
}

/// A version, ordered as releases are: by its numbers, a pre-release before its release.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    numbers: Vec<u64>,
    is_release: bool,
}

impl Version {
    fn of(text: &str) -> Self {
        let text = text.split('+').next().unwrap_or_default();
        let (numbers, is_release) = match text.split_once('-') {
            Some((numbers, _)) => (numbers, false),
            None => (text, true),
        };
        let numbers = numbers.trim_start_matches('v').split('.');
        Self {
            numbers: numbers.map_while(|number| number.parse().ok()).collect(),
            is_release,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_releases_are() {
        let ascending = [
            "0.9.10",
            "0.10.0-rc.1",
            "0.10.0",
            "v0.10.1",
            "1.0.0+build",
            "1.0.1",
        ];
        for pair in ascending.windows(2) {
            assert!(Version::of(pair[0]) < Version::of(pair[1]), "{pair:?}");
        }
        assert!(Version::of("1.0.0+a") == Version::of("1.0.0+b"));
    }
}
