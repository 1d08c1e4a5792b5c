//! The database's file, which one hub has open at a time.

use super::{failed, prepare};
use crate::error::Error;
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Keeps other hubs from the file. The kernel drops the lock when the process ends, however it ends.
///
/// It has to be dropped after the connection: when a process closes any descriptor of a file, it
/// loses the fcntl(2) locks that `SQLite` holds on it.
pub(super) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

/// Opens the file, which is made if it is not there, and locks it.
pub(super) fn open(path: &Path) -> Result<(Connection, Lock), Error> {
    let shown = path.display().to_string();
    // Made here rather than by SQLite, for its mode: the audit is nobody else's to read.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|cause| failed(&shown, &cause))?;
    let lock = lock(file, &shown)?;
    // An absolute path is never taken for SQLite's own `:memory:` or `file:` names.
    let absolute = path
        .canonicalize()
        .map_err(|cause| failed(&shown, &cause))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(&absolute, flags).map_err(|cause| failed(&shown, &cause))?;
    prepare(&connection).map_err(|cause| failed(&shown, &cause))?;
    Ok((connection, lock))
}

/// Takes flock(2) on the file itself: `SQLite` uses other locks (fcntl(2)), so backups still work,
/// and all names of one file, hard links too, lead to the same lock.
fn lock(file: File, shown: &str) -> Result<Lock, Error> {
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::Error(cause)) => Err(failed(shown, &cause)),
        Err(TryLockError::WouldBlock) => {
            let next = "Stop the other hub, or give --database another file.";
            let cause = "another hub has it open";
            Err(Error::new(
                format!("opening the database {shown}"),
                cause,
                next,
            ))
        }
    }
}
