//! The proof that a run can write its files, before a use of the secret is spent.
//!
//! The proof covers the exact files: no file is a mount point or has an attribute that forbids its
//! replacement, the folder accepts the owner and the mode of each file, and the file system has room for
//! all files at once. Existing files are not changed.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, StatxAttributes, StatxFlags, statx, unlinkat};
use rustix::io::Errno;

use super::atomic;
use super::ownership::Grant;
use super::{safe_read, unwritable};
use crate::error::{ErrorId, Result};

pub use super::obstacle::Obstacle;

/// Path of the list of mounts (proc(5)), for a kernel before Linux 5.8.
pub const MOUNTS: &str = "/proc/self/mountinfo";
/// Size of a block in most file systems, in bytes.
const BLOCK: usize = 4096;

/// A file that a run creates or replaces.
#[derive(Clone, Debug)]
pub struct Target {
    /// The path of the file.
    pub path: PathBuf,
    /// The owner and permission bits of the file.
    pub grant: Grant,
    /// The largest size of the file, in bytes.
    pub room: usize,
    /// The error when the file cannot be written.
    pub error_id: ErrorId,
}

/// Proves that all targets can be written. Does all steps of a write in each folder, and removes the proof
/// files again.
///
/// In the folder `written_later`, the caller itself writes durably before it sends a request, so the proof
/// needs no sync there. `mounts` is the path of [`MOUNTS`].
///
/// # Errors
/// The error of the first target that cannot be written.
pub fn prove(targets: &[Target], written_later: Option<&Path>, mounts: &Path) -> Result<()> {
    for target in targets {
        inspect(&target.path, mounts)
            .map_err(|error| unwritable(target.error_id, &target.path, &error))?;
    }
    // The proof files of all folders exist at once, so that there is room for all of the targets.
    let mut proofs = Vec::new();
    for (index, first) in targets.iter().enumerate() {
        let folder = atomic::folder_of(&first.path);
        let is_here = |target: &&Target| atomic::folder_of(&target.path) == folder;
        if targets.iter().take(index).any(|target| is_here(&target)) {
            continue;
        }
        let here: Vec<&Target> = targets.iter().filter(is_here).collect();
        let failed = |error: io::Error| unwritable(first.error_id, folder, &error);
        let room = here.iter().map(|target| blocks(target.room)).sum();
        let proof = atomic::temporary(folder, &vec![b'#'; room], first.grant).map_err(failed)?;
        // An existing file and its successor exist together, so a folder of several files gets a spare.
        let spare = here.last().filter(|_| here.len() > 1);
        let others = here.iter().skip(1).chain(spare);
        let others = others
            .map(|target| atomic::unsynced(folder, &[], target.grant))
            .collect::<io::Result<Vec<_>>>()
            .map_err(failed)?;
        proofs.push((folder, first.error_id, proof, others));
    }
    for (folder, error_id, proof, others) in proofs {
        if written_later != Some(folder) {
            atomic::prove_rename(folder, proof)
                .map_err(|error| unwritable(error_id, folder, &error))?;
        }
        drop(others);
    }
    Ok(())
}

/// Returns the room of a file in full blocks, in bytes.
fn blocks(room: usize) -> usize {
    room.div_ceil(BLOCK) * BLOCK
}

/// Returns whether the user of this process may write in `folder`, without a change.
#[must_use]
pub fn may_write(folder: &Path) -> bool {
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Checks that a rename can replace `path`, without a change. A missing file is accepted.
///
/// # Errors
/// An [`Obstacle`], or the system's error.
pub fn inspect(path: &Path, mounts: &Path) -> io::Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let (is_folder, attributes, known) = match statx(CWD, path, flags, StatxFlags::TYPE) {
        Ok(stat) => (
            FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory,
            stat.stx_attributes,
            stat.stx_attributes_mask,
        ),
        Err(Errno::NOENT) => return Ok(()),
        // A kernel before Linux 4.11, or a filter of system calls.
        Err(_) => match fs::symlink_metadata(path) {
            Ok(metadata) => {
                let none = StatxAttributes::empty();
                (metadata.is_dir(), none, none)
            }
            // The proof file in the folder reports any other error.
            Err(_) => return Ok(()),
        },
    };
    if is_folder {
        return Err(Obstacle::Folder.into());
    }
    let is_mount = if known.contains(StatxAttributes::MOUNT_ROOT) {
        attributes.contains(StatxAttributes::MOUNT_ROOT)
    } else {
        is_listed(path, mounts)
    };
    if is_mount {
        return Err(Obstacle::MountPoint.into());
    }
    if let Some(obstacle) = Obstacle::of_attributes(attributes) {
        return Err(obstacle.into());
    }
    // A rename over a file and a removal of a folder begin with the same checks of the kernel. The path is
    // not a folder, so this call removes nothing, and it ends with ENOTDIR when all checks pass.
    match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOTDIR | Errno::NOENT) => Ok(()),
        Err(Errno::BUSY) => Err(Obstacle::MountPoint.into()),
        Err(error) => Err(error.into()),
    }
}

/// Returns the attribute of `path`, or of its folder, that forbids a change.
pub(super) fn forbidding_attribute(path: &Path) -> Option<(PathBuf, Obstacle)> {
    [path, atomic::folder_of(path)]
        .into_iter()
        .find_map(|path| {
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
            let stat = statx(CWD, path, flags, StatxFlags::TYPE).ok()?;
            let obstacle = Obstacle::of_attributes(stat.stx_attributes)?;
            Some((path.to_owned(), obstacle))
        })
}

/// Returns true when the list of mounts has `path`.
fn is_listed(path: &Path, mounts: &Path) -> bool {
    let Ok(folder) = fs::canonicalize(atomic::folder_of(path)) else {
        return false;
    };
    let Some(name) = path.file_name() else {
        return false;
    };
    let path = folder.join(name);
    let list = safe_read::kernel(mounts).unwrap_or_default();
    list.lines().any(|line| {
        let point = line.split(' ').nth(4).unwrap_or_default();
        unescaped(point) == path.as_os_str().as_bytes()
    })
}

/// Decodes a path of the list of mounts, which has space, tab, line end and backslash as `\040`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..3).and_then(|it| u8::from_str_radix(it, 8).ok());
        match digits {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(part.get(3..).unwrap_or_default().as_bytes());
            }
            None => {
                bytes.push(b'\\');
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::atomic::Owner;

    const NO_MOUNTS: &str = "/proc/self/mountinfo";

    fn target(path: PathBuf, mode: u32) -> Target {
        let owner = Owner::ours();
        Target {
            path,
            grant: Grant { owner, mode },
            room: 10_000,
            error_id: ErrorId::StateUnwritable,
        }
    }

    #[test]
    fn leaves_nothing_behind_and_changes_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        atomic::write(&path("a"), b"one", 0o600, Owner::ours()).unwrap();
        let targets = [target(path("a"), 0o640), target(path("b"), 0o644)];
        for later in [None, Some(folder.path())] {
            prove(&targets, later, Path::new(NO_MOUNTS)).unwrap();
        }
        assert_eq!(fs::read(path("a")).unwrap(), b"one");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn names_the_target_that_cannot_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::create_dir(&path).unwrap();
        let error = prove(&[target(path.clone(), 0o600)], None, Path::new(NO_MOUNTS)).unwrap_err();
        assert_eq!(error.exit_code(), 73);
        assert!(error.what().contains("/a"), "{error}");
        assert!(path.is_dir());
    }

    #[test]
    fn a_list_of_mounts_is_read_where_the_kernel_reports_no_attribute() {
        let folder = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(folder.path()).unwrap();
        let path = folder.join("a b\\c");
        let escaped = path.display().to_string();
        let escaped = escaped.replace('\\', "\\134").replace(' ', "\\040");
        let mounts = folder.join("mounts");
        let line = format!("21 1 8:1 / / rw - ext4 x rw\n22 21 8:1 /x {escaped} rw - ext4 x rw\n");
        atomic::write(&mounts, line.as_bytes(), 0o600, Owner::ours()).unwrap();
        assert!(is_listed(&path, &mounts));
        assert!(!is_listed(&folder.join("a"), &mounts));
        assert!(!is_listed(&path, &folder.join("none")));
    }
}
