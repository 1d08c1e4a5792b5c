//! The health file, from which `status` reads the last heartbeat and the last failure of the service.
//!
//! The service writes it after each try into `/run/monsys`, which is in memory, and writes no other file. When
//! the service's user also owns the state directory, that directory has a copy: of the service's start and
//! end, or of each try when there is no `/run/monsys`. The file is not synced, so it can be lost. Root does not
//! trust its content.

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

/// Name of the health file.
pub const FILE: &str = "heartbeat.json";
/// Folder of the running system for the file.
const RUN: &str = "/run/monsys";

/// The state of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Id of the agent whose heartbeats the service sends.
    pub agent_id: String,
    /// Seconds between heartbeats.
    pub interval_secs: u64,
    /// Time of the last try, RFC 3339.
    #[serde(default)]
    pub last_try: Option<String>,
    /// Planned time of the next try, RFC 3339.
    #[serde(default)]
    pub next_try: Option<String>,
    /// Time of the last heartbeat that the hub accepted, RFC 3339.
    #[serde(default)]
    pub last_heartbeat: Option<String>,
    /// The last failures in a row.
    #[serde(default)]
    pub failure: Option<Failure>,
    /// Time at which the service was stopped, RFC 3339; `None` while it runs.
    #[serde(default)]
    pub stopped_at: Option<String>,
    /// The same times by a clock that cannot be set. Files of older releases lack them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_boot: Option<SinceBoot>,
}

/// Times in one boot, in full seconds since that boot. Ages by these times stay right when the host's clock is
/// set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinceBoot {
    /// The boot (random(4), `boot_id`).
    pub boot_id: String,
    /// Time of the last try in this boot.
    pub last_try: Option<u64>,
    /// Planned time of the next try.
    pub next_try: Option<u64>,
    /// Time of the last heartbeat that the hub accepted in this boot.
    pub last_heartbeat: Option<u64>,
    /// Time of the first of the present failures in a row, if it was in this boot.
    pub failing_since: Option<u64>,
    /// Time at which the service was stopped.
    pub stopped_at: Option<u64>,
}

/// Failed heartbeats in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Time of the first failure, RFC 3339.
    pub since: String,
    /// Time of the last failure, RFC 3339.
    pub at: String,
    /// Time at which the hub accepted a heartbeat again, RFC 3339; `None` while heartbeats fail.
    #[serde(default)]
    pub ended_at: Option<String>,
    /// Number of failures.
    pub tries: u64,
    /// Id of the last error.
    pub id: String,
    /// Headline of the last error.
    pub what: String,
    /// Cause of the last error.
    pub cause: String,
    /// Fix of the last error.
    pub hint: String,
}

impl Health {
    /// Notes a heartbeat that the hub accepted.
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

    /// Notes a heartbeat that failed.
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

    /// Notes the start of the service, before its first try.
    pub(super) fn started(&mut self, now: &Moment) {
        self.stopped_at = None;
        self.next_try = Some(clock::rfc3339(now.wall));
        if let Some((boot, seconds)) = self.in_boot(now) {
            boot.stopped_at = None;
            boot.next_try = seconds;
        }
    }

    /// Notes the pause before the next try.
    pub(super) fn waits(&mut self, now: &Moment, pause: Duration) {
        self.next_try = now.wall.checked_add(pause).map(clock::rfc3339);
        if let Some((boot, seconds)) = self.in_boot(now) {
            boot.next_try = seconds.map(|seconds| seconds.saturating_add(pause.as_secs()));
        }
    }

    /// Notes the normal end of the service.
    pub(super) fn stopped(&mut self, now: &Moment) {
        self.stopped_at = Some(clock::rfc3339(now.wall));
        if let Some((boot, seconds)) = self.in_boot(now) {
            boot.stopped_at = seconds;
        }
    }

    /// Returns the times of this boot, and the seconds since this boot. Times of another boot are dropped.
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

    /// Orders two files of one host by their last time, even when the clock was set in between.
    fn by_time(&self, other: &Self) -> Ordering {
        let in_boot = |boot: &SinceBoot| boot.next_try.max(boot.last_try).max(boot.stopped_at);
        match (&self.since_boot, &other.since_boot) {
            (Some(ours), Some(theirs)) if ours.boot_id == theirs.boot_id => {
                in_boot(ours).cmp(&in_boot(theirs))
            }
            _ => {
                // Texts of RFC 3339 in UTC sort by time.
                let latest = |health: &Self| {
                    let times = [&health.stopped_at, &health.next_try, &health.last_try];
                    times.into_iter().flatten().max().cloned()
                };
                latest(self).cmp(&latest(other))
            }
        }
    }

    /// Returns the present failures in a row, if heartbeats fail now.
    #[must_use]
    pub fn failing(&self) -> Option<&Failure> {
        self.failure
            .as_ref()
            .filter(|failure| failure.ended_at.is_none())
    }

    /// Returns the time after which a missing heartbeat is overdue: three intervals and a minute.
    #[must_use]
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.interval_secs.saturating_mul(3).saturating_add(60))
    }
}

/// The reason for writing the health file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveReason {
    /// After a try.
    Try,
    /// At the start or the end of the service: after a power cut, the file must not say that the service was
    /// stopped.
    StartOrStop,
}

/// The places of the health file.
#[derive(Debug)]
pub struct HealthFile {
    /// The file in memory, if the system has a folder for it.
    running: PathBuf,
    /// The copy on the disk.
    stored: PathBuf,
}

impl HealthFile {
    /// Returns the places for a host with this state directory, `--root` included.
    #[must_use]
    pub fn of(state_dir: &std::path::Path, environment: &Environment) -> Self {
        Self {
            running: environment.resolved_path(RUN).join(FILE),
            stored: state_dir.join(FILE),
        }
    }

    /// Returns the places for a dialect whose credential is in `folder`, among files of other programs.
    #[must_use]
    pub fn of_dialect(name: &str, folder: &std::path::Path, environment: &Environment) -> Self {
        Self {
            running: environment
                .resolved_path(RUN)
                .join(format!("{name}-{FILE}")),
            stored: folder.join(format!(".monsys-{FILE}")),
        }
    }

    /// Reads the file in memory, whichever agent it is of: for a user who may not read the host's other files.
    #[must_use]
    pub fn running(environment: &Environment) -> Option<Health> {
        let path = environment.resolved_path(RUN).join(FILE);
        serde_json::from_slice(&safe_read::foreign(&path).ok()?).ok()
    }

    /// Reads the newest file of this agent.
    #[must_use]
    pub fn load(&self, agent_id: &str) -> Option<Health> {
        let read = |path| {
            let health: Health = serde_json::from_slice(&safe_read::foreign(path).ok()?).ok()?;
            (health.agent_id == agent_id).then_some(health)
        };
        [read(&self.running), read(&self.stored)]
            .into_iter()
            .flatten()
            .max_by(Health::by_time)
    }

    /// Removes the files of [`HealthFile::save`], when the host is not this agent any more.
    pub fn remove(&self) {
        let stored = self.owns_copy().then_some(&self.stored);
        for path in [Some(&self.running), stored].into_iter().flatten() {
            if let Err(error) = atomic::remove(path) {
                tracing::debug!("{}: {error}", path.display());
            }
        }
    }

    /// Returns both places.
    #[must_use]
    pub fn paths(&self) -> [&PathBuf; 2] {
        [&self.running, &self.stored]
    }

    /// Writes the health file. A failure is only logged: the heartbeats go on.
    pub fn save(&self, health: &Health, reason: SaveReason) {
        let mut bytes = serde_json::to_vec(health).unwrap_or_default();
        bytes.push(b'\n');
        // Every user may read it: monitoring has a user of its own. It holds no secret.
        let running = atomic::write_lazily(&self.running, &bytes, 0o644);
        if let Err(error) = &running {
            tracing::debug!("{}: {error}", self.running.display());
        }
        if (reason == SaveReason::StartOrStop || running.is_err())
            && self.owns_copy()
            && let Err(error) = atomic::write_lazily(&self.stored, &bytes, 0o600)
        {
            tracing::debug!("{}: {error}", self.stored.display());
        }
    }

    /// Returns whether the state directory belongs to this user. The service's own user has no state directory.
    fn owns_copy(&self) -> bool {
        let owner = self
            .stored
            .parent()
            .and_then(|folder| Owner::of(folder).ok());
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
    fn failures_are_one_row_until_a_heartbeat_is_accepted() {
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
        // A file of another user may have any number.
        health.failure.as_mut().unwrap().tries = u64::MAX;
        health.missed(&error, &at(120));
        assert_eq!(health.failing().unwrap().tries, u64::MAX);
    }

    #[test]
    fn is_in_memory_while_the_service_runs_and_on_the_disk_when_it_stops() {
        let root = tempfile::tempdir().unwrap();
        let state_dir = root.path().join("var/lib/monsys");
        std::fs::create_dir_all(&state_dir).unwrap();
        let environment = Environment::real([]).with_root(root.path());
        let file = HealthFile::of(&state_dir, &environment);
        let mut health = Health::default();
        health.accepted(&at(10));
        file.save(&health, SaveReason::Try);
        assert!(state_dir.join(FILE).exists(), "there is no /run/monsys");
        std::fs::create_dir_all(root.path().join("run/monsys")).unwrap();
        health.accepted(&at(40));
        file.save(&health, SaveReason::Try);
        assert_eq!(file.load(&health.agent_id), Some(health.clone()));
        health.stopped(&at(50));
        file.save(&health, SaveReason::StartOrStop);
        std::fs::remove_dir_all(root.path().join("run")).unwrap();
        assert_eq!(file.load(&health.agent_id), Some(health));
        assert_eq!(file.load("another"), None, "another agent's");
    }
}
