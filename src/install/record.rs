//! The install record: the changes of `install`, so that `uninstall` undoes exactly those.
//!
//! A run records each change before it makes the change. So the install record of a killed run has all its
//! changes. The rollback recognises a recorded change that was not made.

use std::fmt;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use agent_core::VERSION;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::store::atomic::{self, Owner};
use agent_core::store::{safe_read, unreadable};

/// The path of the install record. It does not depend on `--state-dir`, because it is about the host and not
/// about one agent.
pub const PATH: &str = "/var/lib/monsys/install.json";

/// The folder of the install record.
pub(super) const FOLDER: &str = "/var/lib/monsys";

/// A change that was made. Paths are the host's own, without `--root`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "snake_case")]
pub(crate) enum RecordedChange {
    /// Made the service's user, with a group of the same name.
    MakeUser {
        name: String,
        /// The id of the group, if it existed before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<u32>,
    },
    /// Made a folder.
    MakeFolder { path: PathBuf },
    /// Gave a path to the service's user. Only an older release did, and the rollback does nothing,
    /// because all paths belong to root now.
    Give { path: PathBuf },
    /// Wrote a file. During the replacement, `sha256` has the sums of the old and of the new file.
    PutFile {
        path: PathBuf,
        sha256: Vec<String>,
        /// The second name of the foreign file that was at this path before.
        kept: Option<PathBuf>,
    },
    /// Made a symbolic link.
    Link { path: PathBuf, target: PathBuf },
}

impl RecordedChange {
    /// Returns true if both changes are of the same kind and path.
    pub(super) fn is_about(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self.path() == other.path()
    }

    /// Returns the path of the change, or the name of the user.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::MakeUser { name, .. } => Path::new(name),
            Self::MakeFolder { path }
            | Self::Give { path, .. }
            | Self::PutFile { path, .. }
            | Self::Link { path, .. } => path,
        }
    }
}

/// Prints the changed object for people.
impl fmt::Display for RecordedChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeUser { name, .. } => write!(f, "the user {name}"),
            Self::MakeFolder { path } => write!(f, "the folder {}", path.display()),
            Self::Give { path, .. } => write!(f, "the owner of {}", path.display()),
            Self::PutFile { path, .. } => write!(f, "{}", path.display()),
            Self::Link { path, .. } => write!(f, "the link {}", path.display()),
        }
    }
}

/// All changes that were made, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstallRecord {
    /// The version of the installed agent.
    pub(super) version: String,
    /// The changes, the first one first.
    pub(super) done: Vec<RecordedChange>,
}

impl InstallRecord {
    /// Reads the install record. Returns an empty one if the file does not exist.
    ///
    /// # Errors
    /// [`ErrorId::InstallRecordBroken`], also if another user could have written the file: root removes nothing
    /// that the service's user has listed. [`ErrorId::Unreadable`].
    pub(super) fn load(environment: &Environment) -> Result<Self> {
        let path = environment.path(PATH);
        let broken =
            |cause: String| Error::new(ErrorId::InstallRecordBroken, cause).about(path.display());
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
            .open(&path);
        let file = match file {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {
                return Err(broken("the file is a symbolic link".into()));
            }
            opened => opened.map_err(|error| unreadable(&path, &error))?,
        };
        let metadata = file.metadata().map_err(|error| unreadable(&path, &error))?;
        if metadata.nlink() > 1 {
            return Err(broken("the file has a second hard link".into()));
        }
        let own_uid = nix::unistd::geteuid().as_raw();
        if ![own_uid, 0].contains(&metadata.uid()) || metadata.mode() & 0o022 != 0 {
            return Err(broken(format!(
                "another user than {own_uid} can write the file (owner {}, mode {:04o})",
                metadata.uid(),
                metadata.mode() & 0o7777
            )));
        }
        let mut bytes = Vec::new();
        file.take(safe_read::LIMIT)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(&path, &error))?;
        serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))
    }

    /// Writes the install record, or removes it when it has no changes. Does nothing if its folder does not
    /// exist: that is made by the first change, and removed by the last one.
    ///
    /// # Errors
    /// The I/O error of the file.
    pub(super) fn save(&self, environment: &Environment) -> std::io::Result<()> {
        let path = environment.path(PATH);
        if !environment.resolved_path(FOLDER).is_dir() {
            return Ok(());
        }
        if self.done.is_empty() {
            return atomic::remove(&path);
        }
        let mut text = serde_json::to_vec_pretty(&Self {
            version: VERSION.into(),
            done: self.done.clone(),
        })?;
        text.push(b'\n');
        atomic::write(&path, &text, 0o600, Owner::root())
    }

    /// Returns the recorded change of the same kind and path.
    pub(super) fn find(&self, like: &RecordedChange) -> Option<&RecordedChange> {
        self.done.iter().find(|change| change.is_about(like))
    }

    /// Records `change`. Replaces and returns the change of the same kind and path.
    pub(super) fn put(&mut self, change: RecordedChange) -> Option<RecordedChange> {
        match self.done.iter_mut().find(|known| known.is_about(&change)) {
            Some(known) => Some(std::mem::replace(known, change)),
            None => {
                self.done.push(change);
                None
            }
        }
    }

    /// Removes the change of the same kind and path.
    pub(super) fn forget(&mut self, change: &RecordedChange) {
        self.done.retain(|known| !known.is_about(change));
    }

    /// Returns the paths of the files and links that were written.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.done.iter().filter_map(|change| match change {
            RecordedChange::PutFile { path, .. } | RecordedChange::Link { path, .. } => {
                Some(path.as_path())
            }
            _ => None,
        })
    }

    /// Returns the record of the service's user, if the installation made it, or began to.
    pub(super) fn made_user(&self) -> Option<&RecordedChange> {
        let mut done = self.done.iter();
        done.find(|change| matches!(change, RecordedChange::MakeUser { .. }))
    }

    /// Returns the sums of the file that was written to `path`, and the second name of the former file.
    pub(super) fn file(&self, path: &Path) -> Option<(&[String], Option<&Path>)> {
        self.done.iter().find_map(|change| match change {
            RecordedChange::PutFile {
                path: known,
                sha256,
                kept,
            } if known == path => Some((sha256.as_slice(), kept.as_deref())),
            _ => None,
        })
    }
}
