//! What is written beside the env file: that a request left, before it does, and what came of it.
//! Nothing in it is a secret, and it can be lost.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use agent_core::clock;
use agent_core::environment::Environment;
use agent_core::error::{ErrorId, Result};
use agent_core::store::access::{Access, Grant};
use agent_core::store::{atomic, safe_read, unwritable};
use agent_core::token::Secret;

/// Name of the file, in the env file's folder.
const FILE: &str = ".monsys-enrol.json";

/// How the enrolment of one sensor stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PendingRequest {
    sensor_id: String,
    /// When the last request left whose answer did not come, RFC 3339.
    asked_at: Option<String>,
    /// Which sensor token stood in the env file then, by a number out of its hash.
    replacing: Option<String>,
    /// When the backend said yes, RFC 3339.
    pub(crate) enrolled_at: Option<String>,
    /// Host name that the backend was told.
    pub(crate) hostname: Option<String>,
    heartbeat_interval_seconds: Option<u64>,
}

impl PendingRequest {
    /// The mark of this sensor. One that cannot be read is none.
    pub(crate) fn load(folder: &Path, sensor_id: &str) -> Option<Self> {
        let bytes = safe_read::own(&path(folder)).ok()?;
        let mark: Self = serde_json::from_slice(&bytes).ok()?;
        (mark.sensor_id == sensor_id).then_some(mark)
    }

    /// That a request is about to leave, which is to replace `token`.
    pub(crate) fn asked(
        before: Option<&Self>,
        id: &str,
        token: Option<&Secret>,
        environment: &Environment,
    ) -> Self {
        Self {
            sensor_id: id.to_owned(),
            asked_at: Some(now(environment)),
            replacing: token.map(short_hash),
            ..before.cloned().unwrap_or_default()
        }
    }

    /// That the backend said yes, and the credential is in its sink.
    pub(crate) fn enrolled(
        id: &str,
        hostname: &str,
        interval: Duration,
        environment: &Environment,
    ) -> Self {
        Self {
            sensor_id: id.to_owned(),
            enrolled_at: Some(now(environment)),
            hostname: Some(hostname.to_owned()),
            heartbeat_interval_seconds: Some(interval.as_secs()),
            ..Self::default()
        }
    }

    /// The same, found out by a later run.
    pub(crate) fn recovered(&self, environment: &Environment) -> Self {
        Self {
            sensor_id: self.sensor_id.clone(),
            enrolled_at: self.asked_at.clone().or_else(|| Some(now(environment))),
            ..Self::default()
        }
    }

    /// A request left, and this is all that is known of it.
    pub(crate) fn is_explicit(&self) -> bool {
        self.asked_at.is_some()
    }

    /// The same, and `token`, which stands in the env file now, is not what it brought.
    pub(crate) fn is_open(&self, token: Option<&Secret>) -> bool {
        self.is_explicit() && self.replacing == token.map(short_hash)
    }

    /// When that request left.
    pub(crate) fn asked_at(&self) -> &str {
        self.asked_at
            .as_deref()
            .unwrap_or("a time that is not known")
    }

    /// The interval that the backend has said.
    pub(crate) fn interval(&self) -> Option<Duration> {
        let seconds = self.heartbeat_interval_seconds?;
        Some(Duration::from_secs(seconds.clamp(1, 86_400)))
    }

    /// Writes it.
    ///
    /// # Errors
    /// [`ErrorId::EnvFileUnwritable`].
    pub(crate) fn save(&self, folder: &Path, access: Access) -> Result<()> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        let path = path(folder);
        let Grant { owner, mode } = access.shared();
        atomic::write(&path, &bytes, mode, owner)
            .map_err(|error| unwritable(ErrorId::EnvFileUnwritable, &path, &error))
    }

    /// Removes it.
    ///
    /// # Errors
    /// [`ErrorId::EnvFileUnwritable`].
    pub(crate) fn remove(folder: &Path) -> Result<()> {
        let path = path(folder);
        atomic::remove(&path).map_err(|error| unwritable(ErrorId::EnvFileUnwritable, &path, &error))
    }
}

/// Where the mark of an env file in `folder` is.
pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

fn now(environment: &Environment) -> String {
    clock::rfc3339(environment.now())
}

/// Enough to tell two tokens apart.
fn short_hash(token: &Secret) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, token.expose_secret().as_bytes());
    let begin = hash.as_ref().iter().take(8);
    begin
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
        .to_string()
}
