//! The files on the host's disk. Only [`atomic`] writes files of the agent; [`crate::scrub`] changes
//! bytes in files of other programs.

pub mod access;
pub mod agent_toml;
pub mod atomic;
pub mod env_file;
pub mod key_files;
pub mod lock;
pub mod named;
mod obstacle;
mod ownership;
pub mod passwd;
mod pid_file;
pub mod proof;
pub mod safe_read;
pub mod trust;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use crate::error::{Error, ErrorId};
use obstacle::Obstacle;

/// Opens a file. musl's `open`, which the standard library calls, sets close-on-exec by a second
/// system call; its `openat` does not.
pub fn open(path: &Path, flags: OFlag, mode: Mode) -> io::Result<File> {
    open_in(AT_FDCWD, path.as_os_str(), flags, mode)
}

/// Opens the file `name` in an open folder, without a second lookup of that folder.
pub fn open_in(folder: impl AsFd, name: &OsStr, flags: OFlag, mode: Mode) -> io::Result<File> {
    loop {
        match openat(&folder, name, flags | OFlag::O_CLOEXEC, mode) {
            Ok(file) => return Ok(file.into()),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns the names in a folder. musl's `opendir`, which the standard library calls, maps its own
/// memory for each call.
pub fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    let folder = open(folder, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
    listed(rustix::fs::Dir::new(folder)?)
}

/// Returns the sorted names in an open folder.
pub fn names_in(folder: &File) -> io::Result<Vec<OsString>> {
    let mut names = listed(rustix::fs::Dir::read_from(folder)?)?;
    names.sort();
    Ok(names)
}

fn listed(entries: rustix::fs::Dir) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in entries {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Returns the error for a path that could not be written, with a hint that fits the cause.
#[must_use]
pub fn unwritable(id: ErrorId, path: &Path, error: &io::Error) -> Error {
    if let Some(error) = trust::explained(error) {
        return error;
    }
    let failed = Error::new(id, error.to_string()).about(path.display());
    let elsewhere = elsewhere(id);
    if let Some(obstacle) = Obstacle::of(error) {
        return failed.hint(obstacle.hint(path, elsewhere));
    }
    match error.kind() {
        io::ErrorKind::PermissionDenied => match proof::forbidding_attribute(path) {
            Some((path, obstacle)) => Error::new(id, obstacle.to_string())
                .about(path.display())
                .hint(obstacle.hint(&path, elsewhere)),
            None => failed.hint("run the command as root (sudo), or as the owner of the path"),
        },
        io::ErrorKind::ReadOnlyFilesystem => failed.hint(format!(
            "remount the file system read-write, or {elsewhere}, on another file system"
        )),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => failed.hint(
            "free space or inodes on that file system, or raise the quota, then run the same command again",
        ),
        io::ErrorKind::ResourceBusy => failed.hint(Obstacle::MountPoint.hint(path, elsewhere)),
        _ => failed,
    }
}

/// Returns the setting of another path, for a hint.
fn elsewhere(id: ErrorId) -> &'static str {
    match id {
        ErrorId::ConfigUnwritable => "choose another path with --config PATH",
        ErrorId::EnvFileUnwritable => "choose another path with --config PATH or CONFIG_FILE",
        ErrorId::JobsDirUnwritable => "choose another folder with --worker-jobs-dir DIR",
        _ => "choose another folder with --state-dir DIR",
    }
}

/// Returns the error for a configuration file that this user may not read.
#[must_use]
pub fn forbidden(path: &Path) -> Error {
    Error::new(
        ErrorId::ConfigUnreadable,
        "this user has no permission to read it",
    )
    .about(path.display())
}

/// Returns the error for a path that could not be read, with a hint that fits the cause.
#[must_use]
pub fn unreadable(path: &Path, error: &io::Error) -> Error {
    if let Some(error) = trust::explained(error) {
        return error;
    }
    let failed = Error::new(ErrorId::Unreadable, error.to_string()).about(path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            failed.hint("run the command as root (sudo), or as the owner of the path")
        }
        _ => failed,
    }
}
