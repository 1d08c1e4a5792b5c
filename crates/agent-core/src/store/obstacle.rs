//! The reasons why a file system does not accept an atomic write, and the hint for each.

use std::fmt;
use std::io;
use std::path::Path;

use rustix::fs::StatxAttributes;

/// A reason why a path, or its file system, does not accept an atomic write. It travels in an
/// [`io::Error`].
#[derive(Debug)]
pub enum Obstacle {
    /// A folder is in the place of the file.
    Folder,
    /// The file is a mount point.
    MountPoint,
    /// The path has the attribute `i` (chattr(1)).
    Immutable,
    /// The path has the attribute `a` (chattr(1)).
    AppendOnly,
    /// The file system does not accept the owner of the file.
    Owner(io::Error),
    /// The file system does not accept the permission bits of the file.
    Mode(u32, io::Error),
}

impl Obstacle {
    /// Returns the attribute that forbids the replacement of a file, if the file has one.
    pub(super) fn of_attributes(attributes: StatxAttributes) -> Option<Self> {
        if attributes.contains(StatxAttributes::IMMUTABLE) {
            return Some(Self::Immutable);
        }
        attributes
            .contains(StatxAttributes::APPEND)
            .then_some(Self::AppendOnly)
    }

    /// Returns the obstacle in an error, if it has one.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Returns the command or setting that removes the obstacle at `path`. `elsewhere` is the setting of
    /// another path.
    pub(crate) fn hint(&self, path: &Path, elsewhere: &str) -> String {
        let path = path.display();
        match self {
            Self::Folder => {
                format!("move the directory away (mv {path} {path}.old), or {elsewhere}")
            }
            Self::MountPoint => {
                format!("mount the folder of the file instead of the file, or {elsewhere}")
            }
            Self::Immutable => format!("chattr -i {path}; then run the same command again"),
            Self::AppendOnly => format!("chattr -a {path}; then run the same command again"),
            Self::Owner(_) | Self::Mode(..) => {
                format!("{elsewhere}, on a file system that has it, such as ext4, xfs or btrfs")
            }
        }
    }
}

impl Obstacle {
    /// Returns why a file does not get its owner. A read-only file system accepts no owner, and says so itself.
    pub(super) fn owner(error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => error,
            _ => Self::Owner(error).into(),
        }
    }

    /// Returns why a file does not get its mode, as [`owner`](Self::owner) does.
    pub(super) fn mode(mode: u32, error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => error,
            _ => Self::Mode(mode, error).into(),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder => f.write_str("it is a directory"),
            Self::MountPoint => f.write_str(
                "it is a mount point, such as a single file that is mounted into a container, and a mount point cannot be replaced",
            ),
            Self::Immutable => f.write_str("it has the attribute `i` (immutable, chattr(1))"),
            Self::AppendOnly => f.write_str("it has the attribute `a` (append only, chattr(1))"),
            Self::Owner(error) => {
                write!(f, "the file system does not accept the owner of a file (chown): {error}")
            }
            Self::Mode(mode, error) => write!(
                f,
                "the file system does not accept the mode {mode:04o} of a file (chmod): {error}"
            ),
        }
    }
}

impl std::error::Error for Obstacle {}

impl From<Obstacle> for io::Error {
    fn from(obstacle: Obstacle) -> Self {
        let kind = match &obstacle {
            Obstacle::Folder => io::ErrorKind::IsADirectory,
            Obstacle::MountPoint => io::ErrorKind::ResourceBusy,
            Obstacle::Immutable | Obstacle::AppendOnly => io::ErrorKind::PermissionDenied,
            Obstacle::Owner(error) | Obstacle::Mode(_, error) => error.kind(),
        };
        Self::new(kind, obstacle)
    }
}
