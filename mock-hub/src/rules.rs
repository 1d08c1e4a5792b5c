//! The rules by which a heartbeat is refused or doubted. docs/protocol.md tells them.

use crate::clock::{Millis, rfc3339};
use crate::database::{Stop, to_json};
use crate::heartbeat::Heartbeat;
use crate::integrity::{Anomaly, Sighting};
use crate::refusal::Refusal;
use crate::secret::sha256;
use rusqlite::{Savepoint, named_params, params};

/// How far a host's clock may be off, and so how long a signed body is good for.
const CLOCK_TOLERANCE: Millis = 5 * 60 * 1000;
/// The cadence is judged over so many intervals.
const INTERVALS: Millis = 10;
/// More heartbeats than this in that time are out of band: two hosts with one key send 20.
const MOST: i64 = 15;
/// Real metrics never stand still for so many heartbeats.
const FLAT: i64 = 10;

/// Whether a host's clock and the hub's agree.
///
/// A body from outside of the tolerance is a replay or comes from a host whose clock is wrong.
/// Nothing in it tells which, so it is refused, and the refusal says by how much it is off.
pub(crate) fn check_clock(
    savepoint: &Savepoint<'_>,
    sighting: &Sighting<'_>,
    captured_at: Millis,
) -> Result<(), Stop> {
    let drift = captured_at.saturating_sub(sighting.now);
    if drift.saturating_abs() <= CLOCK_TOLERANCE {
        return Ok(());
    }
    let side = if drift < 0 { "behind" } else { "ahead of" };
    let off = format!(
        "captured_at is {} s {side} the hub's clock",
        drift.saturating_abs() / 1000
    );
    sighting.record(savepoint, Anomaly::ClockDrift, &off)?;
    Err(Refusal::clock_drift(&off, &rfc3339(sighting.now)).into())
}

/// Whether a body is new. The hub knows each that it has taken by its hash, for as long as the
/// clock would let it pass.
pub(crate) fn check_new(
    savepoint: &Savepoint<'_>,
    sighting: &Sighting<'_>,
    body: &[u8],
) -> Result<(), Stop> {
    let agent = sighting.agent_id.to_string();
    let window = sighting.app.interval_millis() * INTERVALS;
    // One that came at `t` says at most `t` and the tolerance, and has gone stale as long after that.
    // Times in this table are the steady clock's: who sets the hub's clock makes no replay new.
    let kept = window.max(2 * CLOCK_TOLERANCE);
    savepoint
        .prepare_cached("DELETE FROM heartbeats WHERE agent_id = ?1 AND received_at < ?2")?
        .execute(params![agent, sighting.steady.saturating_sub(kept)])?;
    let added = savepoint
        .prepare_cached(
            "INSERT INTO heartbeats (agent_id, body_sha256, received_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO NOTHING",
        )?
        .execute(params![agent, sha256(body), sighting.steady])?;
    if added == 0 {
        let detail = "a heartbeat came a second time, byte for byte";
        sighting.record(savepoint, Anomaly::Cadence, detail)?;
        return Err(Refusal::replayed().into());
    }
    Ok(())
}

/// What the hub remembers of an agent's heartbeats from one to the next.
#[derive(Debug)]
pub(crate) struct Memory {
    last_at: Option<Millis>,
    metrics: Option<Vec<u8>>,
    alike: i64,
}

impl Memory {
    pub(crate) fn of(savepoint: &Savepoint<'_>, sighting: &Sighting<'_>) -> rusqlite::Result<Self> {
        savepoint
            .prepare_cached(
                "SELECT heartbeat_at, metrics_sha256, metrics_alike FROM agents WHERE id = ?1",
            )?
            .query_row([sighting.agent_id.to_string()], |row| {
                Ok(Self {
                    last_at: row.get(0)?,
                    metrics: row.get(1)?,
                    alike: row.get(2)?,
                })
            })
    }

    /// Silence, and too many heartbeats.
    pub(crate) fn check_cadence(
        &self,
        savepoint: &Savepoint<'_>,
        sighting: &Sighting<'_>,
    ) -> rusqlite::Result<()> {
        let window = sighting.app.interval_millis() * INTERVALS;
        // While the hub was away itself, nobody could be heard.
        let silence = self.last_at.map(|last| {
            sighting
                .steady
                .saturating_sub(last.max(sighting.app.started_at))
        });
        if let Some(silence) = silence.filter(|silence| *silence > window) {
            let detail = format!("no heartbeat for {} s", silence / 1000);
            sighting.record(savepoint, Anomaly::Cadence, &detail)?;
        }
        let recent: i64 = savepoint
            .prepare_cached(
                // A hub that was started anew with its clock set back has rows of the future.
                "SELECT count(*) FROM heartbeats
                  WHERE agent_id = ?1 AND received_at > ?2 AND received_at <= ?3",
            )?
            .query_row(
                params![
                    sighting.agent_id.to_string(),
                    sighting.steady.saturating_sub(window),
                    sighting.steady
                ],
                |row| row.get(0),
            )?;
        if recent > MOST {
            let detail = format!("{recent} heartbeats in {} s", window / 1000);
            sighting.record(savepoint, Anomaly::Cadence, &detail)?;
        }
        Ok(())
    }

    /// Whether the metrics move. A host that sends none is not doubted for that.
    pub(crate) fn check_metrics(
        &mut self,
        savepoint: &Savepoint<'_>,
        sighting: &Sighting<'_>,
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
        if self.alike >= FLAT {
            let detail = format!("{} heartbeats with the very same metrics", self.alike);
            sighting.record(savepoint, Anomaly::FlatMetrics, &detail)?;
        }
        Ok(())
    }

    /// Writes down the heartbeat, and what to remember of it.
    pub(crate) fn keep(
        &self,
        savepoint: &Savepoint<'_>,
        sighting: &Sighting<'_>,
        heartbeat: &Heartbeat,
    ) -> rusqlite::Result<()> {
        savepoint
            .prepare_cached(
                "UPDATE agents
                    SET last_heartbeat = :heartbeat, agent_version = :version, last_seen_at = :now,
                        heartbeat_at = :steady, metrics_sha256 = :metrics, metrics_alike = :alike
                  WHERE id = :id",
            )?
            .execute(named_params! {
                ":id": sighting.agent_id.to_string(),
                ":heartbeat": to_json(heartbeat)?,
                ":version": heartbeat.agent_version,
                ":now": sighting.now,
                ":steady": sighting.steady,
                ":metrics": self.metrics,
                ":alike": self.alike,
            })?;
        Ok(())
    }
}

/// Compares the agent's version with the one before.
pub(crate) fn check_version(
    savepoint: &Savepoint<'_>,
    sighting: &Sighting<'_>,
    before: &str,
    now: &str,
) -> rusqlite::Result<()> {
    if Version::of(now) < Version::of(before) {
        let detail = format!("from {before:?} to {now:?}");
        sighting.record(savepoint, Anomaly::VersionDowngrade, &detail)?;
    }
    Ok(())
}

/// A version in the order of releases: by its numbers, and a pre-release before its release.
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
