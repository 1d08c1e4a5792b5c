//! Whom a file of ours belongs to.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

/// User and group that a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// The owner of `path`.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self {
            uid: metadata.uid(),
            gid: metadata.gid(),
        })
    }

    /// The user and group with these ids.
    #[must_use]
    pub fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid }
    }

    /// Root, whom the programs and services of a host belong to.
    #[must_use]
    pub fn root() -> Self {
        Self::new(0, 0)
    }

    /// User and group, as numbers.
    #[must_use]
    pub fn ids(self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    /// This user, with another group.
    #[must_use]
    pub fn with_group(self, gid: u32) -> Self {
        Self { gid, ..self }
    }

    /// Whether this is the user root.
    #[must_use]
    pub fn is_root(self) -> bool {
        self.uid == 0
    }

    /// Who runs this. The kernel is asked once: nothing in this program changes its user.
    #[must_use]
    pub fn ours() -> Self {
        static OURS: OnceLock<Owner> = OnceLock::new();
        *OURS.get_or_init(|| Self {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        })
    }

    /// Gives `file` to this owner. Only root can; anybody else's files are their own.
    ///
    /// # Errors
    /// What the system says.
    pub fn own(self, file: &File) -> io::Result<()> {
        self.own_as(file, &file.metadata()?)
    }

    /// The same for a file that has just been looked at.
    pub(super) fn own_as(self, file: &File, metadata: &Metadata) -> io::Result<()> {
        let is_own = (metadata.uid(), metadata.gid()) == (self.uid, self.gid);
        if is_own || !Self::ours().is_root() {
            return Ok(());
        }
        std::os::unix::fs::fchown(file, Some(self.uid), Some(self.gid))
    }
}
