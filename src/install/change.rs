//! One change of the host: its text, its JSON, and its record in the install record.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::record::RecordedChange;
use agent_core::store::access::GROUP;

/// A step of the plan. Paths are the host's own, without `--root`.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Make the service's user and its group.
    MakeUser {
        /// The id of the group, if it exists already.
        group: Option<u32>,
    },
    /// Make a folder that belongs to root.
    MakeFolder {
        /// The path of the folder.
        path: PathBuf,
        /// Permissions.
        mode: u32,
    },
    /// Let the service's group read a file of root's, or enter a folder. The install record has no record of
    /// this: the rollback of [`Change::MakeUser`] undoes it too.
    Share {
        /// The path of the file or folder.
        path: PathBuf,
        /// True for a folder.
        is_folder: bool,
    },
    /// Write a file that belongs to root.
    PutFile(PutFile),
    /// Make a symbolic link.
    Link {
        /// The path of the link.
        path: PathBuf,
        /// The target of the link.
        target: PathBuf,
    },
}

/// A file to write.
#[derive(PartialEq, Eq)]
pub struct PutFile {
    /// The path of the file.
    pub path: PathBuf,
    /// The content.
    pub bytes: Vec<u8>,
    /// Permissions.
    pub mode: u32,
    /// The file that is at this path now.
    pub existing: ExistingFile,
}

/// The file at the path of a file to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExistingFile {
    /// The path does not exist.
    None,
    /// A former run wrote the file.
    Ours,
    /// A former run wrote the file, and somebody has changed it since. It is not kept: nobody edits a
    /// program, and the unit names the right place for changes.
    Changed,
    /// Another program or a user wrote the file. It is kept beside the new file.
    Foreign,
}

impl fmt::Debug for PutFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.path.display(), self.bytes.len())
    }
}

impl Change {
    /// Returns the change as an object of `--output json`.
    #[must_use]
    pub fn json(&self) -> Value {
        let octal = |mode: u32| format!("{mode:04o}");
        match self {
            Self::MakeUser { .. } => json!({"do": "make_user", "name": GROUP}),
            Self::MakeFolder { path, mode } => {
                json!({"do": "make_folder", "path": path, "mode": octal(*mode)})
            }
            Self::Share { path, .. } => json!({"do": "share", "path": path, "with": GROUP}),
            Self::PutFile(file) => json!({
                "do": "put_file",
                "path": file.path,
                "mode": octal(file.mode),
                "sha256": sha256(&file.bytes),
                "replaces": match file.existing {
                    ExistingFile::None => Value::Null,
                    ExistingFile::Ours => json!("ours"),
                    ExistingFile::Changed => json!("changed"),
                    ExistingFile::Foreign => json!("foreign"),
                },
            }),
            Self::Link { path, target } => json!({"do": "link", "path": path, "target": target}),
        }
    }

    /// Returns the path for an error of this change.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::MakeUser { .. } => Path::new("/etc/passwd"),
            Self::MakeFolder { path, .. } | Self::Share { path, .. } | Self::Link { path, .. } => {
                path
            }
            Self::PutFile(file) => &file.path,
        }
    }

    /// Returns the record of this change for the install record.
    pub(super) fn recorded(&self) -> Option<RecordedChange> {
        Some(match self {
            Self::MakeUser { group } => RecordedChange::MakeUser {
                name: GROUP.into(),
                group: *group,
            },
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

/// Prints a line of the plan.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeUser { group: Some(_) } => write!(f, "make the user {GROUP}"),
            Self::MakeUser { group: None } => write!(f, "make the user and group {GROUP}"),
            Self::MakeFolder { path, mode } => {
                write!(f, "make the folder {} ({mode:04o})", path.display())
            }
            Self::Share { path, .. } => {
                write!(f, "let the group {GROUP} read {}", path.display())
            }
            Self::PutFile(file) => {
                let (path, mode) = (file.path.display(), file.mode);
                match file.existing {
                    ExistingFile::None => write!(f, "write {path} ({mode:04o})"),
                    ExistingFile::Ours => write!(f, "replace {path} ({mode:04o})"),
                    ExistingFile::Changed => {
                        write!(f, "replace {path} ({mode:04o}), which somebody has changed")
                    }
                    ExistingFile::Foreign => write!(
                        f,
                        "replace {path} ({mode:04o}), and keep the existing file as {}",
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

/// Returns the second name of a foreign file, while ours is at its path.
pub(super) fn kept(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".monsys-kept");
    name.into()
}

/// Returns the SHA-256 of `bytes` in hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    agent_core::hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}
