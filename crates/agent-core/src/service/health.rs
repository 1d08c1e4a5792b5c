//! What `status` can read of the service: its last heartbeat, and what failed last.
//!
//! It is written after each try, into `/run/monsys`, which is in memory and all that the service
//! writes. Where one user runs everything, that user's state directory has a copy: of the service's
//! start and end, or of each try when there is no `/run/monsys`. It is not synced: it can be lost.
//! Whoever reads it as root takes it for data of a stranger.

use std::cmp::Ordering;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{self, Moment};
use crate::environment::Environment;
use crate::error::Error;
use crate::redact::redact;
use crate::store::atomic::{self, Owner};
use crate::store::safe_read;

/// Name of the file.
pub const FILE: &str = "heartbeat.json";
/// Folder of the running system for it.
const RUN: &str = "/run/monsys";

/// How the service fares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The agent that it speaks for, by the id that its system knows it by.
    pub agent_id: String,
    /// Seconds between heartbeats.
    pub interval_secs: u64,
    /// Last try, RFC 3339.
    #[serde(default)]
    pub last_try: Option<String>,
    /// When the next try is to be, RFC 3339.
    #[serde(default)]
    pub next_try: Option<String>,
    /// Last heartbeat that the hub took, RFC 3339.
    #[serde(default)]
    pub last_heartbeat: Option<String>,
    /// What failed last.
    #[serde(default)]
    pub failure: Option<Failure>,
    /// When the service was stopped, RFC 3339; it does not run since then.
    #[serde(default)]
    pub stopped_at: Option<String>,
    /// The same moments by a clock that nobody sets. Files of older releases lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_boot: Option<SinceBoot>,
}

/// Moments of one boot, in whole seconds since that boot. Ages that they give stay right when
/// somebody sets the host's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinceBoot {
    /// The boot (random(4), `boot_id`).
    pub boot_id: String,
    /// Last try in this boot.
    pub last_try: Option<u64>,
    /// When the next try is to be.
    pub next_try: Option<u64>,
    /// Last heartbeat that the hub accepted in this boot.
    pub last_heartbeat: Option<u64>,
    /// First of the present failures in a row, if that was in this boot.
    pub failing_since: Option<u64>,
    /// When the service was stopped.
    pub stopped_at: Option<u64>,
}

/// A row of heartbeats that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The first of them, RFC 3339.
    pub since: String,
    /// The last of them, RFC 3339.
    pub at: String,
    /// When the hub took one again, RFC 3339; none while it does not.
    #[serde(default)]
    pub ended_at: Option<String>,
    /// How many.
    pub tries: u64,
    /// Id of the last error.
    pub id: String,
    /// What failed.
    pub what: String,
    /// Why.
    pub cause: String,
    /// How to fix it.
    pub hint: String,
}

impl Health {
    /// The hub took a heartbeat.
    pub(super) fn accepted(&mut self, now: &Moment) {
        if let Some((boot, seconds)) = self.in_boot(now) {
            boot.last_try = seconds;
            boot.last_heartbeat = seconds;
            boot.failing_since = None;
        }
        let now = clock::rfc3339(now.wall);
        if let Some(failure) = &mut self.failure {
            failure.ended_at.get_or_insert_with(|| now.clone());
        }
        self.last_heartbeat = Some(now.clone());
        self.last_try = Some(now);
    }

    /// A heartbeat failed.
    pub fn missed(&mut self, error: &Error, now: &Moment) {
        let is_first = self.failing().is_none();
        if let Some((boot, seconds)) = self.in_boot(now) {
            boot.last_try = seconds;
            if is_first {
                boot.failing_since = seconds;
            }
        }
        let now = clock::rfc3339(now.wall);
        let (since, tries) = match &self.failure {
            Some(failure) if failure.ended_at.is_none() => {
                (failure.since.clone(), failure.tries.saturating_add(1))
            }
            _ => (now.clone(), 1),
        };
        self.failure = Some(Failure {
            since,
            at: now.clone(),
            ended_at: None,
            tries,
            id: error.id().code().into(),
            what: redact(&error.what()).into_owned(),
            cause: redact(error.cause()).into_owned(),
            hint: redact(error.next_step()).into_owned(),
        });
        self.last_try = Some(now);
    }

    /// The service begins, and has tried nothing yet.
    pub(super) fn started(&mut self, now: &Moment) {
        self.stopped_at = None;
        self.next_try = Some(clock::rfc3339(now.wall));
        if let Some((boot, seconds)) = self.in_boot(now) {
            boot.stopped_at = None;
            boot.next_try = seconds;
        }
    }

    /// It waits.
    pub(super) fn waits(&mut self, now: &Moment, pause: Duration) {
        self.next_try = now.wall.checked_add(pause).map(clock::rfc3339);
        if let Some((boot, seconds)) = self.in_boot(now) {
            boot.next_try = seconds.map(|seconds| seconds.saturating_add(pause.as_secs()));
        }
    }

    /// The service ends in good order.
    pub(super) fn stopped(&mut self, now: &Moment) {
        self.stopped_at = Some(clock::rfc3339(now.wall));
        if let Some((boot, seconds)) = self.in_boot(now) {
            boot.stopped_at = seconds;
        }
    }

    /// Returns the moments of this boot, none of another one's, and the seconds since this boot.
    fn in_boot(&mut self, now: &Moment) -> Option<(&mut SinceBoot, Option<u64>)> {
        if now.since_boot.is_none() || now.boot_id.is_empty() {
            self.since_boot = None;
            return None;
        }
        let boot = self.since_boot.get_or_insert_default();
        if boot.boot_id != now.boot_id {
            *boot = SinceBoot {
                boot_id: now.boot_id.clone(),
                ..SinceBoot::default()
            };
        }
        Some((boot, now.since_boot))
    }

    /// Orders two files of one host by the last moment in them, whatever was done to the clock.
    fn by_time(&self, other: &Self) -> Ordering {
        let in_boot = |boot: &SinceBoot| boot.next_try.max(boot.last_try).max(boot.stopped_at);
        match (&self.since_boot, &other.since_boot) {
            (Some(ours), Some(theirs)) if ours.boot_id == theirs.boot_id => {
                in_boot(ours).cmp(&in_boot(theirs))
            }
            _ => {
                // RFC 3339 in UTC sorts as time does.
                let latest = |health: &Self| {
                    let times = [&health.stopped_at, &health.next_try, &health.last_try];
                    times.into_iter().flatten().max().cloned()
                };
                latest(self).cmp(&latest(other))
            }
        }
    }

    /// The row of failures that goes on, if one does.
    #[must_use]
    pub fn failing(&self) -> Option<&Failure> {
        self.failure
            .as_ref()
            .filter(|failure| failure.ended_at.is_none())
    }

    /// How long after the last heartbeat the next one is overdue: three intervals and a minute.
    #[must_use]
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.interval_secs.saturating_mul(3).saturating_add(60))
    }
}

/// Why it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveReason {
    /// After a try.
    Try,
    /// The service begins or ends: a power cut later on must not look like a stop.
    StartOrStop,
}

/// Where it is kept.
#[derive(Debug)]
pub struct HealthFile {
    /// In memory, if the system has a folder for it.
    running: PathBuf,
    /// On the disk.
    kept: PathBuf,
}

impl HealthFile {
    /// The places of a host with this state directory, `--root` included.
    #[must_use]
    pub fn of(state_dir: &std::path::Path, environment: &Environment) -> Self {
        Self {
            running: environment.resolved_path(RUN).join(FILE),
            kept: state_dir.join(FILE),
        }
    }

    /// The places of a system whose credential is in `folder` among other people's files.
    #[must_use]
    pub fn of_dialect(name: &str, folder: &std::path::Path, environment: &Environment) -> Self {
        Self {
            running: environment
                .resolved_path(RUN)
                .join(format!("{name}-{FILE}")),
            kept: folder.join(format!(".monsys-{FILE}")),
        }
    }

    /// What was last written for this agent.
    #[must_use]
    pub fn load(&self, agent_id: &str) -> Option<Health> {
        let read = |path| {
            let health: Health = serde_json::from_slice(&safe_read::foreign(path).ok()?).ok()?;
            (health.agent_id == agent_id).then_some(health)
        };
        [read(&self.running), read(&self.kept)]
            .into_iter()
            .flatten()
            .max_by(Health::by_time)
    }

    /// Removes what [`HealthFile::save`] wrote: the host is not this agent any more.
    pub fn remove(&self) {
        let kept = self.owns_copy().then_some(&self.kept);
        for path in [Some(&self.running), kept].into_iter().flatten() {
            if let Err(error) = atomic::remove(path) {
                tracing::debug!("{}: {error}", path.display());
            }
        }
    }

    /// Both places.
    #[must_use]
    pub fn paths(&self) -> [&PathBuf; 2] {
        [&self.running, &self.kept]
    }

    /// Writes it. That it cannot be written is no reason to be silent towards the hub.
    pub fn save(&self, health: &Health, occasion: SaveReason) {
        let mut bytes = serde_json::to_vec(health).unwrap_or_default();
        bytes.push(b'\n');
        let running = atomic::write_lazily(&self.running, &bytes);
        if let Err(error) = &running {
            tracing::debug!("{}: {error}", self.running.display());
        }
        if (occasion == SaveReason::StartOrStop || running.is_err())
            && self.owns_copy()
            && let Err(error) = atomic::write_lazily(&self.kept, &bytes)
        {
            tracing::debug!("{}: {error}", self.kept.display());
        }
    }

    /// Whether the state directory belongs to the user who runs this. The service's user has none.
    fn owns_copy(&self) -> bool {
        let owner = self.kept.parent().and_then(|folder| Owner::of(folder).ok());
        owner.is_some_and(|owner| owner.ids().0 == Owner::ours().ids().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorId;

    fn at(seconds: u64) -> Moment {
        Moment::of_wall(clock::of_1970(Duration::from_secs(seconds)))
    }

    #[test]
    fn a_row_of_failures_is_one_until_a_heartbeat_is_taken() {
        let error = Error::new(ErrorId::Unreachable, "no connection").about("https://hub");
        let mut health = Health::default();
        health.missed(&error, &at(10));
        health.missed(&error, &at(20));
        let failure = health.failing().unwrap();
        assert_eq!(failure.tries, 2);
        assert_eq!(failure.since, "1970-01-01T00:00:10Z");
        assert_eq!(failure.at, "1970-01-01T00:00:20Z");
        health.accepted(&at(30));
        health.accepted(&at(60));
        assert!(health.failing().is_none());
        let ended = health.failure.as_ref().unwrap().ended_at.clone();
        assert_eq!(ended.unwrap(), "1970-01-01T00:00:30Z");
        health.missed(&error, &at(90));
        assert_eq!(health.failing().unwrap().tries, 1);
        // As a file that somebody else wrote may have it.
        health.failure.as_mut().unwrap().tries = u64::MAX;
        health.missed(&error, &at(120));
        assert_eq!(health.failing().unwrap().tries, u64::MAX);
    }

    #[test]
    fn is_kept_in_memory_while_it_runs_and_on_the_disk_when_it_stops() {
        let root = tempfile::tempdir().unwrap();
        let state_dir = root.path().join("var/lib/monsys");
        std::fs::create_dir_all(&state_dir).unwrap();
        let environment = Environment::real([]).with_root(root.path());
        let journal = HealthFile::of(&state_dir, &environment);
        let mut health = Health::default();
        health.accepted(&at(10));
        journal.save(&health, SaveReason::Try);
        assert!(state_dir.join(FILE).exists(), "there is no /run/monsys");
        std::fs::create_dir_all(root.path().join("run/monsys")).unwrap();
        health.accepted(&at(40));
        journal.save(&health, SaveReason::Try);
        assert_eq!(journal.load(&health.agent_id), Some(health.clone()));
        health.stopped(&at(50));
        journal.save(&health, SaveReason::StartOrStop);
        std::fs::remove_dir_all(root.path().join("run")).unwrap();
        assert_eq!(journal.load(&health.agent_id), Some(health));
        assert_eq!(journal.load("another"), None, "another agent's");
    }
}
