//! Where this host's files are, and the proof that they can be written.

use std::io;
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::{Path, PathBuf};

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::host_state::Enrolled;
use crate::identity::{KEY_BYTES, KEY_FILE, NEXT_KEY_FILE};
use crate::state::{FILE as STATE_FILE, State};
use agent_core::enrolment::Folder;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::fingerprint::Fingerprint;
use agent_core::scrub::record;
use agent_core::service::HEALTH_FILE;
use agent_core::settings::Settings;
use agent_core::store::access::{Access, Grant};
use agent_core::store::atomic::{self, Draft, Owner};
use agent_core::store::{names, safe_read, unreadable, unwritable};

/// Name of the file that holds the agent's id.
pub(crate) const ID_FILE: &str = "agent-id";

/// Where this host's files are, `--root` included.
pub struct Paths {
    /// `agent.toml`.
    pub config: PathBuf,
    /// The state directory.
    pub state_dir: PathBuf,
}

impl Paths {
    /// The paths of the settings.
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

    /// Where a new key waits for the hub's yes, if it is made on this machine now.
    pub(crate) fn next_key(&self, machine: &Fingerprint) -> PathBuf {
        self.state_dir.join(self.next_key_file(machine))
    }

    /// Name of that file.
    #[expect(clippy::unused_self, reason = "its siblings are methods")]
    pub(crate) fn next_key_file(&self, machine: &Fingerprint) -> String {
        format!("{NEXT_KEY_FILE}{}", machine.short())
    }

    /// Both directories.
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

    /// Removes what killed runs left behind.
    pub(crate) fn sweep(&self) -> Result<()> {
        atomic::sweep(&self.state_dir).map_err(|error| self.state_fault(&error))?;
        atomic::sweep(self.config_dir()).map_err(|error| self.config_fault(&error))
    }

    /// Proves, before a use is spent, that both directories take what will be written.
    pub(crate) fn prove_writable(&self, settings: &Settings, access: Access) -> Result<()> {
        self.prove_with(atomic::prove, settings, access)
    }

    /// The same for a host whose key is yet to be made: it is written before anything is sent, by each
    /// step of a durable write, so only the room for the rest is left to prove.
    pub(crate) fn prove_room_beside_key(&self, settings: &Settings, access: Access) -> Result<()> {
        self.prove_with(atomic::prove_room, settings, access)
    }

    fn prove_with(
        &self,
        prove_state_dir: fn(&Path, usize, Owner) -> io::Result<()>,
        settings: &Settings,
        access: Access,
    ) -> Result<()> {
        let owner = access.shared().owner;
        prove_state_dir(&self.state_dir, 8 * 1024, owner)
            .map_err(|error| self.state_fault(&error))?;
        atomic::prove(self.config_dir(), settings.file.room(), owner)
            .map_err(|error| self.config_fault(&error))
    }

    /// Whether an enrolled host lacks none of its files and has none left over.
    pub(crate) fn are_complete(&self, enrolled: &Enrolled) -> bool {
        let is_settled = enrolled
            .state
            .as_ref()
            .is_some_and(|state| state.next.is_none());
        is_settled
            && self.read_id() == Some(enrolled.agent_id)
            && [self.state_dir.as_path(), self.config_dir()]
                .iter()
                .all(|folder| !has_leftovers(folder))
    }

    pub(crate) fn write_id(&self, id: Uuid, access: Access) -> Result<()> {
        let path = self.state_dir.join(ID_FILE);
        let Grant { owner, mode } = access.public();
        atomic::write(&path, format!("{id}\n").as_bytes(), mode, owner)
            .map_err(|error| self.state_fault(&error))
    }

    /// Writes the state, and behind it the id.
    pub(crate) fn write_state_and_id(&self, state: &State, id: Uuid, access: Access) -> Result<()> {
        let text = format!("{id}\n");
        let id = Draft {
            path: &self.state_dir.join(ID_FILE),
            bytes: text.as_bytes(),
            grant: access.public(),
        };
        state
            .save_with(Some(id), &self.state_dir, access)
            .map_err(|error| self.state_fault(&error))
    }

    pub(crate) fn read_id(&self) -> Option<Uuid> {
        let bytes = safe_read::own(&self.state_dir.join(ID_FILE)).ok()?;
        String::from_utf8(bytes).ok()?.trim().parse().ok()
    }

    /// What makes this host itself: key, id, state, and keys that wait for a yes. A directory that is
    /// not there holds none; one that cannot be read may hold them.
    pub(crate) fn identity_files(&self) -> Result<Vec<PathBuf>> {
        let is_identity = |name: &str| {
            [KEY_FILE, ID_FILE, crate::state::FILE].contains(&name)
                || name.starts_with(NEXT_KEY_FILE)
        };
        let unreadable = |error: &io::Error| unreadable(&self.state_dir, error);
        let entries = match std::fs::read_dir(&self.state_dir) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(&error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&error))?;
            if is_identity(&entry.file_name().to_string_lossy()) {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Files that the service reads, and that nobody else may: agent.toml, state, and the keys.
    pub(crate) fn service_files(&self) -> Vec<PathBuf> {
        let identity = self.identity_files().unwrap_or_default();
        let is_secret = |path: &PathBuf| !path.ends_with(ID_FILE);
        let config = Some(self.config.clone());
        config
            .into_iter()
            .chain(identity.into_iter().filter(is_secret))
            .collect()
    }

    /// Removes every key that still waits for a yes: there is nothing left for it to wait for.
    pub(crate) fn remove_next_keys(&self) -> Result<()> {
        let remove = || -> io::Result<()> {
            for name in names(&self.state_dir)? {
                if name.to_string_lossy().starts_with(NEXT_KEY_FILE) {
                    atomic::remove(&self.state_dir.join(name))?;
                }
            }
            Ok(())
        };
        remove().map_err(|error| self.state_fault(&error))
    }

    pub(crate) fn state_fault(&self, error: &io::Error) -> Error {
        unwritable(ErrorId::StateUnwritable, &self.state_dir, error)
    }

    pub(crate) fn config_fault(&self, error: &io::Error) -> Error {
        unwritable(ErrorId::ConfigUnwritable, &self.config, error)
    }
}

/// What an enrolment and its service have left on the host.
pub struct HostFiles {
    /// agent.toml, what makes the host itself, how its heartbeats fared, and what was scrubbed.
    pub ours: Vec<PathBuf>,
    /// Files of the same names that hold something else.
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
    let notes = [HEALTH_FILE, record::FILE].map(|name| state_dir.join(name));
    let notes = notes.into_iter().filter(is_there);
    let mut files = HostFiles::of(paths.identity_files()?.into_iter().chain(notes))?;
    files.ours.splice(0..0, config);
    Ok(files)
}

impl HostFiles {
    /// Tells the agent's own files in the state directory from others that have the same names.
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

/// Whether a file in the state directory is what the agent writes under that name: another program may
/// have a file of the same name, and nobody else's file is removed.
///
/// # Errors
/// [`ErrorId::Unreadable`]: a file of ours that the disk does not give is still ours.
pub(crate) fn is_ours(path: &Path) -> Result<bool> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let bytes = match safe_read::foreign(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        // A link, a pipe, or more than any file of ours holds.
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
        HEALTH_FILE => fields("agent_id"),
        record::FILE => fields("tokens") && fields("clean"),
        _ => bytes.len() == KEY_BYTES,
    })
}

/// Whether a killed run left something in `folder`. What cannot be read has nothing to sweep.
fn has_leftovers(folder: &Path) -> bool {
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
