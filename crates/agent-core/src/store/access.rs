//! Owners and readers of the files of an enrolled host (contract, section 5).
//!
//! Root owns all files. If the host has the service's group, its members can read the files that the
//! service needs, and only root can write. Without that group (a container), or if another user than
//! root runs the agent, one user owns all files, and only that user can read them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use super::ownership::Grant;
use super::ownership::Owner;
use super::safe_read;

/// Name of the service's user and of its group. The group's members can read the credential, the key and
/// the state.
pub const GROUP: &str = "monsys";

/// The version of the group file (group(5)) that was read.
#[derive(Debug)]
pub struct GroupFile {
    path: PathBuf,
    version: Option<Version>,
}

/// Device, inode, size and time of the last change.
type Version = (u64, u64, u64, i64, i64);

impl GroupFile {
    /// Returns true when the file has changed since: a group was made or removed.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        let now = fs::metadata(&self.path).ok();
        Owner::ours().is_root() && now.as_ref().map(version) != self.version
    }
}

fn version(file: &fs::Metadata) -> Version {
    (
        file.dev(),
        file.ino(),
        file.size(),
        file.ctime(),
        file.ctime_nsec(),
    )
}

/// The owner and the readers of a host's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    owner: Owner,
    /// The group of the service's user, if that user is not the owner.
    reader: Option<u32>,
}

impl Access {
    /// Returns the access that this process gives, on a host with this group file (group(5)). Only root
    /// can give a file to any group, so the group file is read only if root runs this.
    #[must_use]
    pub fn of(group_file: &Path) -> (Self, GroupFile) {
        let owner = Owner::ours();
        let read = owner.is_root().then(|| safe_read::text_of(group_file).ok());
        let (groups, metadata) = read.flatten().unzip();
        let access = Self {
            owner,
            reader: groups.and_then(|groups| group_id(&groups)),
        };
        let file = GroupFile {
            path: group_file.to_owned(),
            version: metadata.as_ref().map(version),
        };
        (access, file)
    }

    /// Returns access for the user of this process only.
    #[must_use]
    pub fn private() -> Self {
        Self {
            owner: Owner::ours(),
            reader: None,
        }
    }

    /// Returns the grant of a file that the service reads: 0640, or 0600 when one user runs everything.
    #[must_use]
    pub fn shared(self) -> Grant {
        match self.reader {
            Some(group) => Grant {
                owner: self.owner.with_group(group),
                mode: 0o640,
            },
            None => self.secret(),
        }
    }

    /// Returns the grant of a folder of such files: 0750, or 0700.
    #[must_use]
    pub fn shared_folder(self) -> Grant {
        let Grant { owner, mode } = self.shared();
        // A reader of a file may enter its folder.
        let mode = mode | (mode & 0o444) >> 2;
        Grant { owner, mode }
    }

    /// Returns the grant of a folder that all users may enter: 0755.
    #[must_use]
    pub fn public_folder(self) -> Grant {
        Grant {
            owner: self.owner,
            mode: 0o755,
        }
    }

    /// Returns the grant of a file that only its owner reads: 0600.
    #[must_use]
    pub fn secret(self) -> Grant {
        Grant {
            owner: self.owner,
            mode: 0o600,
        }
    }

    /// Returns the grant of a file that all users read: 0644.
    #[must_use]
    pub fn public(self) -> Grant {
        Grant {
            owner: self.owner,
            mode: 0o644,
        }
    }

    /// Returns true when the service runs as another user than the owner.
    #[must_use]
    pub fn has_service_user(self) -> bool {
        self.reader.is_some()
    }
}

/// Returns the id of the service's group, if a group file (group(5)) has it.
#[must_use]
pub fn group_in(group_file: &Path) -> Option<u32> {
    group_id(&safe_read::text(group_file).ok()?)
}

/// Returns the id of the service's group in a group file.
fn group_id(groups: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == GROUP).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_reads_only_the_files_of_the_service() {
        let folder = tempfile::tempdir().unwrap();
        let groups = folder.path().join("group");
        let root = Owner::new(0, 0);
        let with_group = Access {
            owner: root,
            reader: Some(77),
        };
        assert_eq!(with_group.shared().mode, 0o640);
        assert_eq!(with_group.shared().owner, Owner::new(0, 77));
        assert_eq!(with_group.shared_folder().mode, 0o750);
        let alone = Access {
            owner: root,
            reader: None,
        };
        assert_eq!(alone.shared(), alone.secret());
        assert_eq!(alone.shared_folder().mode, 0o700);
        assert_eq!(alone.public().mode, 0o644);

        let before = GroupFile {
            path: groups.clone(),
            version: None,
        };
        assert!(!before.has_changed());
        let text = "root:x:0:\nmonsysx:x:1:\nmonsys:x:77:a,b\n";
        assert_eq!(group_id("root:x:0:\n"), None);
        assert_eq!(group_id(text), Some(77));
        if Owner::ours().is_root() {
            super::super::atomic::write(&groups, text.as_bytes(), 0o644, Owner::ours()).unwrap();
            assert!(before.has_changed());
            let (access, file) = Access::of(&groups);
            assert!(access.has_service_user() && !file.has_changed());
        }
    }
}
