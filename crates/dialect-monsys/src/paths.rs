//! The paths of this host's files, and the proof that the files can be written.

use std::collections::BTreeSet;
use std::io;
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::{Path, PathBuf};

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::identity::{KEY_BYTES, KEY_FILE, NEXT_KEY_FILE};
use crate::receipt::{self, Receipt};
use crate::state::{FILE as STATE_FILE, State};
use agent_core::ca_copy;
use agent_core::enrolment::Folder;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::fingerprint::Fingerprint;
use agent_core::scrub::record;
use agent_core::service::HEALTH_FILE;
use agent_core::settings::Settings;
use agent_core::store::access::{Access, Grant};
use agent_core::store::atomic::{self, Draft};
use agent_core::store::proof::{self, Target};
use agent_core::store::{names, safe_read, unreadable, unwritable};

/// Name of the file that holds the agent's id.
pub(crate) const ID_FILE: &str = "agent-id";

/// The receipt after an admission.
pub(crate) enum NewReceipt {
    /// The receipt on the disk stays.
    Keep,
    /// The receipt on the disk is of no use any more.
    Remove,
    /// The hub has given a new receipt.
    Write(Receipt),
}

impl NewReceipt {
    fn draft<'a>(&'a self, path: &'a Path, access: Access) -> Option<Draft<'a>> {
        let Self::Write(receipt) = self else {
            return None;
        };
        Some(Draft {
            path,
            bytes: receipt.as_str().as_bytes(),
            grant: access.shared(),
        })
    }
}

/// The paths of this host's files, `--root` included.
pub struct Paths {
    /// `agent.toml`.
    pub config: PathBuf,
    /// The state directory.
    pub state_dir: PathBuf,
}

/// The time at which a run writes `agent-signing.key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyWrite {
    /// The host keeps its key.
    Never,
    /// The key is made, and is on the disk before the request is sent.
    BeforeRequest,
    /// A next key replaces the key after the hub has accepted it.
    AfterRequest,
}

impl Paths {
    /// Returns the paths that the settings name.
    #[must_use]
    pub fn of(settings: &Settings, environment: &Environment) -> Self {
        Self {
            config: environment.path(&settings.config_path),
            state_dir: environment.resolved_path(&settings.state_dir.value),
        }
    }

    pub(crate) fn config_dir(&self) -> &Path {
        self.config.parent().unwrap_or(Path::new("/"))
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.state_dir.join(KEY_FILE)
    }

    /// Returns the path of a next key that this machine makes.
    pub(crate) fn next_key(&self, machine: &Fingerprint) -> PathBuf {
        self.state_dir.join(self.next_key_file(machine))
    }

    /// Returns the file name of a next key that this machine makes.
    #[expect(clippy::unused_self, reason = "its siblings are methods")]
    pub(crate) fn next_key_file(&self, machine: &Fingerprint) -> String {
        format!("{NEXT_KEY_FILE}{}", machine.short())
    }

    /// Returns the state directory and the directory of agent.toml.
    pub(crate) fn folders(&self, access: Access) -> Vec<Folder> {
        vec![
            Folder {
                name: "state directory",
                path: self.state_dir.clone(),
                grant: access.shared_folder(),
                is_foreign: false,
                error_id: ErrorId::StateUnwritable,
            },
            Folder {
                name: "config directory",
                path: self.config_dir().to_owned(),
                grant: access.public_folder(),
                is_foreign: false,
                error_id: ErrorId::ConfigUnwritable,
            },
        ]
    }

    /// Removes the temporary files of killed runs.
    pub(crate) fn sweep(&self) -> Result<()> {
        atomic::sweep(&self.state_dir).map_err(|error| self.state_error(&error))?;
        atomic::sweep(self.config_dir()).map_err(|error| self.config_error(&error))
    }

    /// Returns the files that a run writes. This is the only list of them.
    pub(crate) fn targets(
        &self,
        settings: &Settings,
        environment: &Environment,
        key: KeyWrite,
    ) -> Vec<Target> {
        let access = environment.access();
        let in_state_dir = |name: &str, room, grant| Target {
            path: self.state_dir.join(name),
            grant,
            room,
            error_id: ErrorId::StateUnwritable,
        };
        let config = Target {
            path: self.config.clone(),
            grant: access.shared(),
            room: settings.file.room(),
            error_id: ErrorId::ConfigUnwritable,
        };
        let key =
            (key != KeyWrite::Never).then(|| in_state_dir(KEY_FILE, KEY_BYTES, access.shared()));
        let state = [
            in_state_dir(STATE_FILE, 8 * 1024, access.shared()),
            in_state_dir(receipt::FILE, receipt::MAX_BYTES, access.shared()),
            in_state_dir(ID_FILE, 64, access.public()),
        ];
        let ca_copy = ca_copy::target(settings, self.config_dir(), environment);
        state
            .into_iter()
            .chain(key)
            .chain([config])
            .chain(ca_copy)
            .collect()
    }

    /// Proves, before a use of the token is spent, that all of the run's files can be written.
    pub(crate) fn prove_writable(
        &self,
        settings: &Settings,
        environment: &Environment,
        key: KeyWrite,
    ) -> Result<()> {
        let targets = self.targets(settings, environment, key);
        let written_later = match key {
            KeyWrite::BeforeRequest => Some(self.state_dir.as_path()),
            KeyWrite::Never | KeyWrite::AfterRequest => None,
        };
        proof::prove(
            &targets,
            written_later,
            &environment.kernel_path(proof::MOUNTS),
        )
    }

    /// Returns whether an enrolled host has all of its files, and no remains of a killed run.
    pub(crate) fn are_complete(&self, agent_id: Uuid, state: Option<&State>) -> bool {
        let is_recovered = state.is_some_and(|state| state.next.is_none());
        is_recovered
            && self.read_id() == Some(agent_id)
            && [self.state_dir.as_path(), self.config_dir()]
                .iter()
                .all(|folder| !has_remains(folder))
    }

    pub(crate) fn write_id(&self, id: Uuid, access: Access) -> Result<()> {
        let path = self.state_dir.join(ID_FILE);
        let Grant { owner, mode } = access.public();
        atomic::write(&path, format!("{id}\n").as_bytes(), mode, owner)
            .map_err(|error| self.state_error(&error))
    }

    /// Writes the state, and after it the receipt and the agent's id.
    pub(crate) fn write_state_and_id(
        &self,
        state: &State,
        receipt: &NewReceipt,
        id: Uuid,
        access: Access,
    ) -> Result<()> {
        let text = format!("{id}\n");
        let id = Draft {
            path: &self.state_dir.join(ID_FILE),
            bytes: text.as_bytes(),
            grant: access.public(),
        };
        let path = self.state_dir.join(receipt::FILE);
        let drafts: Vec<_> = receipt
            .draft(&path, access)
            .into_iter()
            .chain([id])
            .collect();
        state
            .save_with(&drafts, &self.state_dir, access)
            .map_err(|error| self.state_error(&error))?;
        if matches!(receipt, NewReceipt::Remove) {
            atomic::remove(&path).map_err(|error| self.state_error(&error))?;
        }
        Ok(())
    }

    /// Writes or removes the hub's receipt.
    pub(crate) fn write_receipt(&self, receipt: &NewReceipt, access: Access) -> Result<()> {
        let path = self.state_dir.join(receipt::FILE);
        let written = match receipt {
            NewReceipt::Keep => Ok(()),
            NewReceipt::Remove => atomic::remove(&path),
            NewReceipt::Write(_) => {
                let drafts: Vec<_> = receipt.draft(&path, access).into_iter().collect();
                atomic::write_all(&drafts)
            }
        };
        written.map_err(|error| self.state_error(&error))
    }

    pub(crate) fn read_id(&self) -> Option<Uuid> {
        let bytes = safe_read::own(&self.state_dir.join(ID_FILE)).ok()?;
        String::from_utf8(bytes).ok()?.trim().parse().ok()
    }

    /// Returns the files of this host's identity: key, agent-id, state, receipt, and next keys.
    ///
    /// # Errors
    /// [`ErrorId::Unreadable`]. A missing directory has no such files.
    pub(crate) fn identity_files(&self) -> Result<Vec<PathBuf>> {
        let is_identity = |name: &str| {
            [KEY_FILE, ID_FILE, crate::state::FILE, receipt::FILE].contains(&name)
                || name.starts_with(NEXT_KEY_FILE)
        };
        let unreadable = |error: &io::Error| unreadable(&self.state_dir, error);
        let entries = match std::fs::read_dir(&self.state_dir) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(&error)),
        };
        let mut found = BTreeSet::new();
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&error))?;
            if is_identity(&entry.file_name().to_string_lossy()) {
                found.insert(entry.path());
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Returns the files that the service reads and no other user may read: agent.toml, state, and keys.
    pub(crate) fn service_files(&self) -> Vec<PathBuf> {
        let identity = self.identity_files().unwrap_or_default();
        let is_secret = |path: &PathBuf| !path.ends_with(ID_FILE);
        let config = Some(self.config.clone());
        config
            .into_iter()
            .chain(identity.into_iter().filter(is_secret))
            .collect()
    }

    /// Removes all next keys. No request with one of them is open any more.
    pub(crate) fn remove_next_keys(&self) -> Result<()> {
        let remove = || -> io::Result<()> {
            for name in names(&self.state_dir)? {
                if name.to_string_lossy().starts_with(NEXT_KEY_FILE) {
                    atomic::remove(&self.state_dir.join(name))?;
                }
            }
            Ok(())
        };
        remove().map_err(|error| self.state_error(&error))
    }

    /// Returns the error of a write to the state directory.
    pub(crate) fn state_error(&self, error: &io::Error) -> Error {
        unwritable(ErrorId::StateUnwritable, &self.state_dir, error)
    }

    /// Returns the error of a write of agent.toml.
    pub(crate) fn config_error(&self, error: &io::Error) -> Error {
        unwritable(ErrorId::ConfigUnwritable, &self.config, error)
    }
}

/// The files that an enrolment and its service have left on the host.
pub struct HostFiles {
    /// The agent's own files: agent.toml, the identity, the health file, and the record of the secret
    /// cleanup.
    pub ours: Vec<PathBuf>,
    /// Files of the same names with a content that is not the agent's.
    pub others: Vec<PathBuf>,
}

/// Finds the files of an enrolment and its service.
///
/// # Errors
/// [`ErrorId::Unreadable`].
pub fn files(config: &Path, state_dir: &Path) -> Result<HostFiles> {
    let paths = Paths {
        config: config.into(),
        state_dir: state_dir.into(),
    };
    let is_there = |path: &PathBuf| path.symlink_metadata().is_ok();
    let config = Some(paths.config.clone()).filter(is_there);
    let records = [HEALTH_FILE, record::FILE].map(|name| state_dir.join(name));
    let records = records.into_iter().filter(is_there);
    let mut files = HostFiles::of(paths.identity_files()?.into_iter().chain(records))?;
    files.ours.splice(0..0, config);
    Ok(files)
}

impl HostFiles {
    /// Sorts files of the state directory into the agent's own files and files of other programs.
    ///
    /// # Errors
    /// [`ErrorId::Unreadable`].
    pub(crate) fn of(paths: impl IntoIterator<Item = PathBuf>) -> Result<Self> {
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        for path in paths {
            let kind = if is_ours(&path)? {
                &mut ours
            } else {
                &mut others
            };
            kind.push(path);
        }
        Ok(Self { ours, others })
    }
}

/// Returns whether a file in the state directory has the content that the agent writes under that name.
/// Another program may have a file of the same name, and the agent does not remove that.
///
/// # Errors
/// [`ErrorId::Unreadable`]: a file with a read error may be the agent's own.
pub(crate) fn is_ours(path: &Path) -> Result<bool> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let bytes = match safe_read::foreign(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        // A link, a pipe, or a file that is larger than any file of the agent.
        Err(error) if matches!(error.raw_os_error(), None | Some(nix::libc::ELOOP)) => {
            return Ok(false);
        }
        Err(error) if error.kind() == NotFound => return Ok(false),
        Err(error) => return Err(unreadable(path, &error)),
    };
    let fields = |key: &str| {
        let object = serde_json::from_slice::<serde_json::Value>(&bytes);
        object.is_ok_and(|object| object.get(key).is_some())
    };
    Ok(match &*name {
        ID_FILE => {
            std::str::from_utf8(&bytes).is_ok_and(|text| text.trim().parse::<Uuid>().is_ok())
        }
        STATE_FILE => fields("fingerprint"),
        receipt::FILE => {
            std::str::from_utf8(&bytes).is_ok_and(|text| Receipt::parse(text).is_some())
        }
        HEALTH_FILE => fields("agent_id"),
        record::FILE => fields("tokens") && fields("clean"),
        _ => bytes.len() == KEY_BYTES,
    })
}

/// Returns whether a killed run left a temporary file or a next key in `folder`. A folder that cannot be
/// read counts as clean.
fn has_remains(folder: &Path) -> bool {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            atomic::is_temporary(&name) || name.starts_with(NEXT_KEY_FILE)
        })
}
