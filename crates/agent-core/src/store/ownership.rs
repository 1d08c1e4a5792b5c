//! The owner of a file.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

/// The user and the group that a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    uid: u32,
    gid: u32,
}

/// The owner and permission bits of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Owner of the file.
    pub owner: Owner,
    /// Permission bits.
    pub mode: u32,
}

impl Owner {
    /// Returns the owner of `path`.
    ///
    /// # Errors
    /// The system's error.
    pub fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self {
            uid: metadata.uid(),
            gid: metadata.gid(),
        })
    }

    /// Makes an owner from the ids of a user and a group.
    #[must_use]
    pub fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid }
    }

    /// Returns root, the owner of a host's programs and services.
    #[must_use]
    pub fn root() -> Self {
        Self::new(0, 0)
    }

    /// Returns the ids of the user and the group.
    #[must_use]
    pub fn ids(self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    /// Returns this user with another group.
    #[must_use]
    pub fn with_group(self, gid: u32) -> Self {
        Self { gid, ..self }
    }

    /// Returns true for the user root.
    #[must_use]
    pub fn is_root(self) -> bool {
        self.uid == 0
    }

    /// Returns the user and group of this process. They are read once, because this program never changes
    /// them.
    #[must_use]
    pub fn ours() -> Self {
        static OURS: OnceLock<Owner> = OnceLock::new();
        *OURS.get_or_init(|| Self {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        })
    }

    /// Gives `file` to this owner if root runs this. Another user already owns the files that it makes.
    ///
    /// # Errors
    /// The system's error.
    pub fn own(self, file: &File) -> io::Result<()> {
        self.own_as(file, &file.metadata()?)
    }

    /// Gives `file`, whose metadata is known, to this owner, as [`Owner::own`] does.
    pub(super) fn own_as(self, file: &File, metadata: &Metadata) -> io::Result<()> {
        let is_own = (metadata.uid(), metadata.gid()) == (self.uid, self.gid);
        if is_own || !Self::ours().is_root() {
            return Ok(());
        }
        std::os::unix::fs::fchown(file, Some(self.uid), Some(self.gid))
    }
}
