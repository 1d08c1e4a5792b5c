//! The record of the open request, beside the env file.
//!
//! The record is written before a request is sent, and says when, and later the result. It holds no
//! secret. Its loss costs only the explanation of a lost response.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use agent_core::clock;
use agent_core::environment::Environment;
use agent_core::error::{ErrorId, Result};
use agent_core::settings::HubUrl;
use agent_core::store::access::{Access, Grant};
use agent_core::store::{atomic, safe_read, unwritable};
use agent_core::token::Secret;

/// Name of the file, in the env file's folder.
const FILE: &str = ".monsys-enrol.json";

/// The record of the last request of one sensor.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PendingRequest {
    sensor_id: String,
    /// Time at which the open request was sent, RFC 3339.
    #[serde(rename = "asked_at")]
    sent_at: Option<String>,
    /// The sensor token in the env file at that time, as a part of its hash.
    replacing: Option<String>,
    /// Time at which the backend accepted the enrolment, RFC 3339.
    pub(crate) enrolled_at: Option<String>,
    /// Host name that the backend got.
    pub(crate) hostname: Option<String>,
    heartbeat_interval_seconds: Option<u64>,
    /// Origin (RFC 6454) of the backend that got the open request.
    asked: Option<String>,
    /// The issued sensor token, as a part of its hash, and the origin of the backend that issued it.
    issued: Option<Issued>,
}

/// A sensor token, as a part of its hash, and its backend.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Issued {
    token: String,
    by: String,
}

impl PendingRequest {
    /// Reads the record of this sensor. Returns `None` for a file that cannot be read.
    pub(crate) fn load(folder: &Path, sensor_id: &str) -> Option<Self> {
        let bytes = safe_read::own(&path(folder)).ok()?;
        let pending: Self = serde_json::from_slice(&bytes).ok()?;
        (pending.sensor_id == sensor_id).then_some(pending)
    }

    /// Returns the record of a request that is about to be sent, and that replaces `token`.
    pub(crate) fn sent(
        before: Option<&Self>,
        id: &str,
        token: Option<&Secret>,
        backend: &HubUrl,
        environment: &Environment,
    ) -> Self {
        Self {
            sensor_id: id.to_owned(),
            sent_at: Some(now(environment)),
            replacing: token.map(short_hash),
            asked: Some(backend.origin()),
            ..before.cloned().unwrap_or_default()
        }
    }

    /// Returns the record of an accepted request whose credential is in the env file.
    pub(crate) fn enrolled(
        id: &str,
        hostname: &str,
        (token, interval): (&Secret, Duration),
        backend: &HubUrl,
        environment: &Environment,
    ) -> Self {
        Self {
            sensor_id: id.to_owned(),
            enrolled_at: Some(now(environment)),
            hostname: Some(hostname.to_owned()),
            heartbeat_interval_seconds: Some(interval.as_secs()),
            issued: Some(Issued {
                token: short_hash(token),
                by: backend.origin(),
            }),
            ..Self::default()
        }
    }

    /// Returns the record of an accepted request that an interrupted run did not complete, and that brought `token`.
    pub(crate) fn recovered(&self, token: Option<&Secret>, environment: &Environment) -> Self {
        let issued = |token| {
            let by = self.issuer_of(token)?.to_owned();
            let token = short_hash(token);
            Some(Issued { token, by })
        };
        Self {
            sensor_id: self.sensor_id.clone(),
            enrolled_at: self.sent_at.clone().or_else(|| Some(now(environment))),
            issued: token.and_then(issued),
            ..Self::default()
        }
    }

    /// Returns the origin of the backend that issued this sensor token. It is not known for a token that an operator
    /// has written into the env file.
    pub(crate) fn issuer_of(&self, token: &Secret) -> Option<&str> {
        let token = short_hash(token);
        match &self.issued {
            Some(issued) if issued.token == token => Some(&issued.by),
            _ if self.is_open() && self.replacing.as_ref() != Some(&token) => self.asked.as_deref(),
            _ => None,
        }
    }

    /// Returns whether a request was sent, and its result is not recorded.
    pub(crate) fn is_open(&self) -> bool {
        self.sent_at.is_some()
    }

    /// Returns whether the request is open, and did not bring `token`, the present token of the env file.
    pub(crate) fn has_no_response(&self, token: Option<&Secret>) -> bool {
        self.is_open() && self.replacing == token.map(short_hash)
    }

    /// Returns the time at which the request was sent.
    pub(crate) fn sent_at(&self) -> &str {
        self.sent_at.as_deref().unwrap_or("an unknown time")
    }

    /// Returns the heartbeat interval in the backend's response.
    pub(crate) fn interval(&self) -> Option<Duration> {
        let seconds = self.heartbeat_interval_seconds?;
        Some(Duration::from_secs(seconds.clamp(1, 86_400)))
    }

    /// Writes the record.
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

    /// Removes the record.
    ///
    /// # Errors
    /// [`ErrorId::EnvFileUnwritable`].
    pub(crate) fn remove(folder: &Path) -> Result<()> {
        let path = path(folder);
        atomic::remove(&path).map_err(|error| unwritable(ErrorId::EnvFileUnwritable, &path, &error))
    }
}

/// Returns the path of the record for an env file in `folder`.
pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

fn now(environment: &Environment) -> String {
    clock::rfc3339(environment.now())
}

/// Returns a part of the token's hash that is enough to distinguish two tokens.
fn short_hash(token: &Secret) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, token.expose_secret().as_bytes());
    let begin = hash.as_ref().iter().take(8);
    begin
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
        .to_string()
}
