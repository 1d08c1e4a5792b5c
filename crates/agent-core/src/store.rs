//! Everything on the host's disk. Only [`atomic`] writes files of ours; [`crate::scrub`] changes bytes of
//! others'.

pub mod access;
pub mod agent_toml;
pub mod atomic;
pub mod env_file;
pub mod key_files;
pub mod lock;
pub mod named;
mod ownership;
pub mod passwd;
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

/// Opens a file. musl's `open`, which the standard library calls, sets close-on-exec by a second
/// system call; its `openat` does not.
pub fn open(path: &Path, flags: OFlag, mode: Mode) -> io::Result<File> {
    open_in(AT_FDCWD, path.as_os_str(), flags, mode)
}

/// Opens the file `name` of an open folder, without looking up that folder again.
pub fn open_in(folder: impl AsFd, name: &OsStr, flags: OFlag, mode: Mode) -> io::Result<File> {
    loop {
        match openat(&folder, name, flags | OFlag::O_CLOEXEC, mode) {
            Ok(file) => return Ok(file.into()),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Names of what is in a folder. musl's `opendir`, which the standard library calls, maps memory of its
/// own for each.
pub fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    let folder = open(folder, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
    listed(rustix::fs::Dir::new(folder)?)
}

/// Names of what is in an open folder, sorted.
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

/// The error for what could not be written, with the hint that fits the cause.
#[must_use]
pub fn unwritable(id: ErrorId, path: &Path, error: &io::Error) -> Error {
    if let Some(error) = trust::explained(error) {
        return error;
    }
    let failed = Error::new(id, error.to_string()).about(path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            failed.hint("run as root (sudo), or as the user that owns it")
        }
        io::ErrorKind::ReadOnlyFilesystem => failed.hint(match id {
            ErrorId::ConfigUnwritable => {
                "remount it read-write, or choose a path on another file system with --config PATH"
            }
            ErrorId::EnvFileUnwritable => {
                "remount it read-write, or choose a path on another file system with --config PATH or CONFIG_FILE"
            }
            _ => "remount it read-write, or choose another file system with --state-dir DIR",
        }),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            failed.hint("make room there, then run the same command again")
        }
        io::ErrorKind::ResourceBusy => failed.hint(
            "it is a mount of its own, as of one file into a container: mount its folder instead",
        ),
        _ => failed,
    }
}

/// The error for what could not be read, with the hint that fits the cause.
#[must_use]
pub fn unreadable(path: &Path, error: &io::Error) -> Error {
    if let Some(error) = trust::explained(error) {
        return error;
    }
    let told = Error::new(ErrorId::Unreadable, error.to_string()).about(path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            told.hint("run as root (sudo), or as the user that owns it")
        }
        _ => told,
    }
}
