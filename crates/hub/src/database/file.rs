//! The database's file, which one hub has open at a time.

use crate::error::Error;
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// A lock against other hubs. The kernel drops the lock when the process ends, however it ends.
///
/// The lock has to be dropped after the connection: when a process closes any descriptor of a file, it
/// loses the fcntl(2) locks that SQLite holds on it.
pub(super) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

/// Opens the file, which is created if it does not exist, and locks it.
pub(super) fn open(path: &Path) -> Result<(Connection, Lock), Error> {
    let shown = path.display().to_string();
    // Created here rather than by SQLite, for the mode: other users must not read the audit.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|cause| failed(&shown, &cause))?;
    let lock = lock(file, &shown)?;
    // SQLite never reads an absolute path as one of its own `:memory:` or `file:` names.
    let absolute = path
        .canonicalize()
        .map_err(|cause| failed(&shown, &cause))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(&absolute, flags).map_err(|cause| failed(&shown, &cause))?;
    Ok((connection, lock))
}

/// Returns the error of a database that cannot be opened.
pub(super) fn failed(place: &str, cause: &dyn std::fmt::Display) -> Error {
    let hint = "give --database a path that this user may write (an existing file must be a \
                mock hub's), or leave it out to store all in memory";
    Error::new(format!("opening the database {place}"), cause, hint)
}

/// Takes flock(2) on the file itself: SQLite uses other locks (fcntl(2)), so backups still work,
/// and all names of one file, hard links too, lead to the same lock.
fn lock(file: File, shown: &str) -> Result<Lock, Error> {
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::Error(cause)) => Err(failed(shown, &cause)),
        Err(TryLockError::WouldBlock) => {
            let hint = "stop the other hub, or give --database another file";
            let cause = "another hub has it open";
            Err(Error::new(
                format!("opening the database {shown}"),
                cause,
                hint,
            ))
        }
    }
}
