//! One change of the host: how it is told, and what the receipt says of it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::receipt::RecordedChange;
use agent_core::store::access::GROUP;

/// A step of the plan. Paths are the host's own, without `--root`.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Make the service's user and its group.
    MakeUser,
    /// Make a folder, root's.
    MakeFolder {
        /// Where.
        path: PathBuf,
        /// Permissions.
        mode: u32,
    },
    /// Let the service's group read a file, or enter a folder, of root's. This is written down
    /// nowhere: [`Change::MakeUser`] taken back takes it back too.
    Share {
        /// What.
        path: PathBuf,
        /// It is a folder.
        is_folder: bool,
    },
    /// Put a file, root's.
    PutFile(PutFile),
    /// Make a symbolic link.
    Link {
        /// Where.
        path: PathBuf,
        /// What it leads to.
        target: PathBuf,
    },
}

/// A file to put.
#[derive(PartialEq, Eq)]
pub struct PutFile {
    /// Where.
    pub path: PathBuf,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Permissions.
    pub mode: u32,
    /// What is there now.
    pub there: There,
}

/// What is in the place of a file that is to be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    /// Nothing.
    Nothing,
    /// What an earlier run put there.
    Ours,
    /// What an earlier run put there, and somebody has changed since. That is not kept: a program
    /// is not edited, and a unit says where changes belong.
    Changed,
    /// Somebody else's; it is kept beside the new one.
    Foreign,
}

impl fmt::Debug for PutFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.path.display(), self.bytes.len())
    }
}

impl Change {
    /// For programs: `--output json`.
    #[must_use]
    pub fn json(&self) -> Value {
        let octal = |mode: u32| format!("{mode:04o}");
        match self {
            Self::MakeUser => json!({"do": "make_user", "name": GROUP}),
            Self::MakeFolder { path, mode } => {
                json!({"do": "make_folder", "path": path, "mode": octal(*mode)})
            }
            Self::Share { path, .. } => json!({"do": "share", "path": path, "with": GROUP}),
            Self::PutFile(file) => json!({
                "do": "put_file",
                "path": file.path,
                "mode": octal(file.mode),
                "sha256": sha256(&file.bytes),
                "replaces": match file.there {
                    There::Nothing => Value::Null,
                    There::Ours => json!("ours"),
                    There::Changed => json!("changed"),
                    There::Foreign => json!("foreign"),
                },
            }),
            Self::Link { path, target } => json!({"do": "link", "path": path, "target": target}),
        }
    }

    /// The path that a fault of it is about.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::MakeUser => Path::new("/etc/passwd"),
            Self::MakeFolder { path, .. } | Self::Share { path, .. } | Self::Link { path, .. } => {
                path
            }
            Self::PutFile(file) => &file.path,
        }
    }

    /// What the install record says of it, if it says anything.
    pub(super) fn recorded(&self) -> Option<RecordedChange> {
        Some(match self {
            Self::MakeUser => RecordedChange::MakeUser { name: GROUP.into() },
            Self::MakeFolder { path, .. } => RecordedChange::MakeFolder { path: path.clone() },
            Self::Share { .. } => return None,
            Self::PutFile(file) => RecordedChange::PutFile {
                path: file.path.clone(),
                sha256: vec![sha256(&file.bytes)],
                kept: None,
            },
            Self::Link { path, target } => RecordedChange::Link {
                path: path.clone(),
                target: target.clone(),
            },
        })
    }
}

/// For people: a line of the plan.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeUser => write!(f, "make the user and group {GROUP}"),
            Self::MakeFolder { path, mode } => {
                write!(f, "make the folder {} ({mode:04o})", path.display())
            }
            Self::Share { path, .. } => {
                write!(f, "let the group {GROUP} read {}", path.display())
            }
            Self::PutFile(file) => {
                let (path, mode) = (file.path.display(), file.mode);
                match file.there {
                    There::Nothing => write!(f, "write {path} ({mode:04o})"),
                    There::Ours => write!(f, "replace {path} ({mode:04o})"),
                    There::Changed => {
                        write!(f, "replace {path} ({mode:04o}), which somebody has changed")
                    }
                    There::Foreign => write!(
                        f,
                        "replace {path} ({mode:04o}), and keep what is there as {}",
                        kept(&file.path).display()
                    ),
                }
            }
            Self::Link { path, target } => {
                write!(f, "link {} to {}", path.display(), target.display())
            }
        }
    }
}

/// Where somebody else's file is kept while ours is in its place.
pub(super) fn kept(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".monsys-kept");
    name.into()
}

/// SHA-256 in hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    agent_core::hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}
