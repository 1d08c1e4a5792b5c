//! The receipt: what `install` has done, so that `uninstall` takes back exactly that.
//!
//! Each change is written down before it is done, so a run that is killed leaves a receipt that has
//! all of it. What is written there and was not done yet is found to be so when it is taken back.

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

/// Where it is. This does not follow `--state-dir`: it is about the host, not about one agent.
pub const PATH: &str = "/var/lib/monsys/install.json";

/// The folder that it is in.
pub(super) const FOLDER: &str = "/var/lib/monsys";

/// Something that was done. Paths are the host's own, without `--root`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "snake_case")]
pub(crate) enum RecordedChange {
    /// Made the service's user, with a group of the same name.
    MakeUser { name: String },
    /// Made a folder.
    MakeFolder { path: PathBuf },
    /// Gave something to the service's user: only an older release did, and there is nothing to take
    /// back, since all of it is root's now.
    Give { path: PathBuf },
    /// Put a file. While it is replaced, the sums are those of the old and of the new one.
    PutFile {
        path: PathBuf,
        sha256: Vec<String>,
        /// Where somebody else's file, which was there before, is kept.
        kept: Option<PathBuf>,
    },
    /// Made a symbolic link.
    Link { path: PathBuf, target: PathBuf },
}

impl RecordedChange {
    /// Whether both are about the same thing.
    pub(super) fn is_about(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self.path() == other.path()
    }

    /// What it is about.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::MakeUser { name } => Path::new(name),
            Self::MakeFolder { path }
            | Self::Give { path, .. }
            | Self::PutFile { path, .. }
            | Self::Link { path, .. } => path,
        }
    }
}

/// For people.
impl fmt::Display for RecordedChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeUser { name } => write!(f, "the user {name}"),
            Self::MakeFolder { path } => write!(f, "the folder {}", path.display()),
            Self::Give { path, .. } => write!(f, "the owner of {}", path.display()),
            Self::PutFile { path, .. } => write!(f, "{}", path.display()),
            Self::Link { path, .. } => write!(f, "the link {}", path.display()),
        }
    }
}

/// All that was done, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// Version of the agent that was installed.
    pub(super) version: String,
    /// What was done, the first thing first.
    pub(super) done: Vec<RecordedChange>,
}

impl Receipt {
    /// Reads it; a host without one has an empty one.
    ///
    /// # Errors
    /// [`ErrorId::ReceiptBroken`], also when somebody else than who runs this could have written
    /// it: root removes nothing by the service's word. [`ErrorId::Unreadable`].
    pub(super) fn load(environment: &Environment) -> Result<Self> {
        let path = environment.path(PATH);
        let broken =
            |cause: String| Error::new(ErrorId::ReceiptBroken, cause).about(path.display());
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
            .open(&path);
        let file = match file {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {
                return Err(broken("it is a symbolic link".into()));
            }
            opened => opened.map_err(|error| unreadable(&path, &error))?,
        };
        let metadata = file.metadata().map_err(|error| unreadable(&path, &error))?;
        if metadata.nlink() > 1 {
            return Err(broken("it has a second name elsewhere".into()));
        }
        let us = nix::unistd::geteuid().as_raw();
        if ![us, 0].contains(&metadata.uid()) || metadata.mode() & 0o022 != 0 {
            return Err(broken(format!(
                "others than user {us} can write it (owner {}, mode {:04o})",
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

    /// Writes it, or removes it when there is nothing left to take back. Its folder is among the
    /// first things that are made and the last ones that are removed; without it there is none.
    ///
    /// # Errors
    /// What the system says.
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

    /// The change about the same thing, if there is one.
    pub(super) fn find(&self, like: &RecordedChange) -> Option<&RecordedChange> {
        self.done.iter().find(|change| change.is_about(like))
    }

    /// Writes down `change` in the place of the one about the same thing; gives that one back.
    pub(super) fn put(&mut self, change: RecordedChange) -> Option<RecordedChange> {
        match self.done.iter_mut().find(|known| known.is_about(&change)) {
            Some(known) => Some(std::mem::replace(known, change)),
            None => {
                self.done.push(change);
                None
            }
        }
    }

    /// Forgets the change about the same thing as `change`.
    pub(super) fn forget(&mut self, change: &RecordedChange) {
        self.done.retain(|known| !known.is_about(change));
    }

    /// Files and links that were put.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.done.iter().filter_map(|change| match change {
            RecordedChange::PutFile { path, .. } | RecordedChange::Link { path, .. } => {
                Some(path.as_path())
            }
            _ => None,
        })
    }

    /// The file at `path`, as this agent left it.
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
