//! `state.json`: what the agent remembers and can lose without harm.

use std::io;
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::Path;
use std::sync::Once;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use agent_core::enrolment::step_record::StepRecord;
use agent_core::facts::fingerprint::Fingerprint;
use agent_core::store::access::Access;
use agent_core::store::atomic::{self, Draft};

/// Name of the file in the state directory.
pub const FILE: &str = "state.json";
/// Name of the key file in the state directory: 32 bytes, the seed, no header.
pub const KEY_FILE: &str = "agent-signing.key";
/// Begin of the name of a new key until the hub has confirmed it; the machine that made it
/// follows, so that a copy of the disk does not take it for its own. The old key is given up only
/// when the new one is confirmed.
pub const NEXT_KEY_FILE: &str = "agent-signing.key.next-";

/// What the agent remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The machine that the identity on this disk was made on.
    pub fingerprint: Fingerprint,
    /// Name of that machine, as the hub was told.
    pub hostname: Option<String>,
    /// When the hub confirmed the enrolment, RFC 3339.
    pub enrolled_at: Option<String>,
    /// What the host asked for by itself, so that a later run can tell a change.
    pub asked: Asked,
    /// The defaults that the hub last gave.
    pub defaults: Asked,
    /// Seconds between heartbeats, as the hub said.
    pub heartbeat_interval_secs: Option<u64>,
    /// A forced enrolment has begun and not ended: the hub may have given out a new credential,
    /// and then the one in agent.toml is dead.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub renewing: bool,
    /// This host has begun to leave and not ended: the hub may have forgotten it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// The hub's URL was dropped when the files were taken over: the built-in default must not take its
    /// place, since no operator chose that.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hub_dropped: bool,
    /// A new key that waits beside the old one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Box<Next>>,
    /// What the privileged step before the service came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<Box<StepRecord>>,
}

/// A key that waits for the hub's yes, or for its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// Name of its file, in the state directory.
    #[serde(deserialize_with = "key_name")]
    pub key_file: String,
    /// The machine that made it.
    pub machine: Fingerprint,
    /// What the hub has confirmed for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<ConfirmedNext>,
}

/// A name that the agent gives to such a file. Another one, or a path, would have root make, read or
/// move a file that is none of the agent's.
fn key_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    let machine = name.strip_prefix(NEXT_KEY_FILE).unwrap_or_default();
    if machine.is_empty() || machine.contains('/') {
        return Err(D::Error::custom("`key_file` is no name of a waiting key"));
    }
    Ok(name)
}

/// The state to come, once agent.toml names this agent.
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
pub struct Asked {
    /// Tags, in order.
    pub tags: Vec<String>,
    /// Role, if any.
    pub role: Option<String>,
}

impl State {
    /// Whether the credential on the disk may be dead, because of something that was interrupted.
    #[must_use]
    pub fn may_be_dead(&self) -> bool {
        self.renewing || self.leaving
    }

    /// Explains why the hub may not know the credential any more, and how to end what was interrupted:
    /// cause and hint.
    #[must_use]
    pub fn interrupted(&self) -> Option<(&'static str, &'static str)> {
        if self.leaving {
            return Some((
                "unenrolling this host was interrupted, so the hub may have forgotten it",
                "to end it: monsys-agent unenrol; or to stay, with an enrolment token: MONSYS_TOKEN=enrl_… monsys-agent enrol",
            ));
        }
        self.renewing.then_some((
            "a forced enrolment was interrupted, so the hub may have replaced the credential",
            "run the enrolment again with the same token, which spends no further use: MONSYS_TOKEN=… monsys-agent enrol",
        ))
    }

    /// Reads the state. A missing or broken file is no state; one that is there and cannot be read
    /// is not taken for a missing one, since a clone would not be known for one.
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
                // A run reads it more than once, and says it once.
                static TOLD: Once = Once::new();
                TOLD.call_once(|| tracing::warn!("{} is passed over: {error}", path.display()));
            })
            .ok())
    }

    /// Writes the state.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&self, state_dir: &Path, access: Access) -> io::Result<()> {
        self.save_with(None, state_dir, access)
    }

    /// Writes the state, and behind it another file of the state directory.
    ///
    /// # Errors
    /// What the system says.
    pub fn save_with(
        &self,
        next: Option<Draft<'_>>,
        state_dir: &Path,
        access: Access,
    ) -> io::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        let state = Draft {
            path: &state_dir.join(FILE),
            bytes: &bytes,
            grant: access.shared(),
        };
        let drafts: Vec<_> = std::iter::once(state).chain(next).collect();
        atomic::write_all(&drafts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was_and_a_broken_one_is_none() {
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
        // A waiting key has a name, and never a path.
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
