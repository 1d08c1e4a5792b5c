//! `state.json`: the record of an enrolment. The agent's identity survives its loss.

use std::io;
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::Path;
use std::sync::Once;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::hub_check::HubCheck;
use agent_core::enrolment::step_record::StepRecord;
use agent_core::facts::fingerprint::Fingerprint;
use agent_core::store::access::Access;
use agent_core::store::atomic::{self, Draft};

/// Name of the file in the state directory.
pub const FILE: &str = "state.json";
/// Name of the key file in the state directory: 32 bytes, the seed, no header.
pub const KEY_FILE: &str = "agent-signing.key";
/// Prefix of the name of a next key, until the hub has confirmed it. The machine that made the key
/// follows, so that a copy of the disk does not use the key. The current key stays until the next key is
/// confirmed.
pub const NEXT_KEY_FILE: &str = "agent-signing.key.next-";

/// The content of `state.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The machine that the identity on this disk was made on.
    pub fingerprint: Fingerprint,
    /// Origin of the hub that issued the credential. The credential goes to no other hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    /// Host name that the hub got.
    pub hostname: Option<String>,
    /// Time at which the hub confirmed the enrolment, RFC 3339.
    pub enrolled_at: Option<String>,
    /// Tags and role that the host requested, so that a later run can recognise a change.
    #[serde(rename = "asked")]
    pub requested: TagsAndRole,
    /// Default tags and role in the hub's last response.
    pub defaults: TagsAndRole,
    /// Seconds between heartbeats in the hub's last response.
    pub heartbeat_interval_secs: Option<u64>,
    /// A forced enrolment has begun and not ended: the hub may have issued a new credential, and the one
    /// in agent.toml is invalid then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub renewing: bool,
    /// An unenrolment has begun and not ended: the hub may have removed this host.
    #[serde(rename = "leaving", skip_serializing_if = "std::ops::Not::not")]
    pub unenrolling: bool,
    /// A takeover of the files has dropped the hub's URL. The built-in default must not take its place,
    /// since no operator chose that hub.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hub_dropped: bool,
    /// The next key, which waits beside the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Box<Next>>,
    /// The result of the last privileged step before the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<Box<StepRecord>>,
    /// The last time that the privileged step asked the hub whether it still knows this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hub_check: Option<HubCheck>,
}

/// A next key: the hub has not confirmed it, or it is not in its place yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// Name of its file, in the state directory.
    #[serde(deserialize_with = "key_name")]
    pub key_file: String,
    /// The machine that made it.
    pub machine: Fingerprint,
    /// The hub's confirmation of this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<ConfirmedNext>,
}

/// Reads the name of a next key's file. With another name, or a path, root would make, read or move a file
/// that is not the agent's.
fn key_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    let machine = name.strip_prefix(NEXT_KEY_FILE).unwrap_or_default();
    if machine.is_empty() || machine.contains('/') {
        return Err(D::Error::custom("`key_file` is not the name of a next key"));
    }
    Ok(name)
}

/// The state that replaces the present one as soon as agent.toml names this agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmedNext {
    /// The agent.
    pub agent_id: uuid::Uuid,
    /// Its public key, base64.
    pub public_key: String,
    /// Its state.
    pub state: State,
}

/// Tags and a role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TagsAndRole {
    /// Tags, in order.
    pub tags: Vec<String>,
    /// Role, if any.
    pub role: Option<String>,
}

impl State {
    /// Returns whether an interrupted run may have invalidated the credential on the disk.
    #[must_use]
    pub fn may_be_dead(&self) -> bool {
        self.renewing || self.unenrolling
    }

    /// Returns the interrupted run after which the hub may not know the credential, as cause and hint.
    #[must_use]
    pub fn interrupted(&self) -> Option<(&'static str, &'static str)> {
        if self.unenrolling {
            return Some((
                "the unenrolment of this host was interrupted, so the hub may have removed it",
                "to complete it: monsys-agent unenrol; to stay enrolled instead, with an enrolment token: MONSYS_TOKEN=enrl_… monsys-agent enrol",
            ));
        }
        self.renewing.then_some((
            "a forced enrolment was interrupted, so the hub may have replaced the credential",
            "run the enrolment again with the same token (no further use is spent): MONSYS_TOKEN=… monsys-agent enrol",
        ))
    }

    /// Reads the state. A missing or broken file gives `None`.
    ///
    /// A file that exists and cannot be read is an error: without the state, a clone would not be
    /// recognised.
    ///
    /// # Errors
    /// [`agent_core::error::ErrorId::Unreadable`].
    pub fn load(state_dir: &Path) -> agent_core::error::Result<Option<Self>> {
        let path = state_dir.join(FILE);
        let bytes = match agent_core::store::safe_read::own(&path) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(None),
            Err(error) => return Err(agent_core::store::unreadable(&path, &error)),
        };
        Ok(serde_json::from_slice::<Self>(&bytes)
            .inspect_err(|error| {
                // A run reads the file twice, and warns once.
                static WARNED: Once = Once::new();
                WARNED.call_once(|| tracing::warn!("{} is ignored: {error}", path.display()));
            })
            .ok())
    }

    /// Writes the state.
    ///
    /// # Errors
    /// The error of the system.
    pub fn save(&self, state_dir: &Path, access: Access) -> io::Result<()> {
        self.save_with(&[], state_dir, access)
    }

    /// Writes the state, and after it other files of the state directory.
    ///
    /// # Errors
    /// The error of the system.
    pub fn save_with(
        &self,
        others: &[Draft<'_>],
        state_dir: &Path,
        access: Access,
    ) -> io::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        let path = state_dir.join(FILE);
        let state = Draft {
            path: &path,
            bytes: &bytes,
            grant: access.shared(),
        };
        let drafts: Vec<_> = std::iter::once(state)
            .chain(others.iter().copied())
            .collect();
        atomic::write_all(&drafts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_was_written_and_a_broken_file_gives_none() {
        let folder = tempfile::tempdir().unwrap();
        let access = Access::private();
        let owner = access.secret().owner;
        assert_eq!(State::load(folder.path()).unwrap(), None);
        let state = State {
            enrolled_at: Some("2026-01-01T00:00:00Z".into()),
            ..State::default()
        };
        state.save(folder.path(), access).unwrap();
        assert_eq!(State::load(folder.path()).unwrap(), Some(state));
        atomic::write(&folder.path().join(FILE), b"{", 0o600, owner).unwrap();
        assert_eq!(State::load(folder.path()).unwrap(), None);
        atomic::write(&folder.path().join(FILE), b"{\"new\":1}", 0o600, owner).unwrap();
        assert_eq!(State::load(folder.path()).unwrap(), Some(State::default()));
        // A next key has a name, and never a path.
        for (name, is_good) in [
            ("agent-signing.key.next-0123", true),
            ("agent-signing.key.next-", false),
            ("agent-signing.key.next-/../../../etc/nologin", false),
            ("../../../etc/nologin", false),
            ("/etc/nologin", false),
            ("state.json", false),
        ] {
            let text = format!(r#"{{"next":{{"key_file":"{name}","machine":{{}}}}}}"#);
            atomic::write(&folder.path().join(FILE), text.as_bytes(), 0o600, owner).unwrap();
            let loaded = State::load(folder.path()).unwrap();
            assert_eq!(loaded.is_some(), is_good, "{name}");
        }
        atomic::remove(&folder.path().join(FILE)).unwrap();
        std::fs::create_dir(folder.path().join(FILE)).unwrap();
        assert_eq!(State::load(folder.path()).unwrap_err().exit_code(), 74);
    }
}
