//! Locks that let one run at a time change a host. Only the owner of a lock file can open it.
//!
//! `uninstall` removes a lock file with its folder. So a run that got a lock checks that the path still
//! names the locked file, and starts again if not.

use std::fs::{self, File, Metadata, Permissions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use tokio::time::Instant;

use super::ownership::Owner;
use super::pid_file::{self, PidFile};
use super::{atomic, trust};
use crate::boxed::Boxed;
use crate::error::{Error, ErrorId, Result};

/// Name of the lock in the state directory, for all runs that change the files of an enrolment.
pub const FILE: &str = "lock";
/// Name of the lock in the folder of another dialect than monsys. Other programs use that folder too.
pub const DIALECT_FILE: &str = ".monsys-enrol.lock";
/// Name of the lock for `install` and `uninstall`. They hold this lock while the service starts, because
/// the privileged step of the service needs [`FILE`].
pub const INSTALL_FILE: &str = "install.lock";
/// The pause between two attempts to get a busy lock.
const PAUSE: Duration = Duration::from_millis(100);

/// A lock that is held until it is dropped; the kernel releases it when the process dies.
#[derive(Debug)]
pub struct Lock {
    #[expect(dead_code, reason = "holds the lock while it lives")]
    file: File,
    /// The lock on a file system without flock(2).
    #[expect(dead_code, reason = "holds the lock while it lives")]
    pid_file: Option<PidFile>,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock `name` of an existing folder, and waits for another run until `deadline`.
    ///
    /// # Errors
    /// [`ErrorId::LockBusy`] at the deadline, [`ErrorId::StateUnwritable`] when the lock file cannot be
    /// made.
    #[must_use]
    pub fn take<'a>(folder: &'a Path, name: &'a str, deadline: Instant) -> Boxed<'a, Result<Self>> {
        Box::pin(async move {
            let id = ErrorId::StateUnwritable;
            loop {
                if let Some(lock) = Self::take_or(id, folder, name, deadline).await? {
                    return Ok(lock);
                }
                let exists = fs::metadata(folder);
                exists.map_err(|error| super::unwritable(id, folder, &error))?;
            }
        })
    }

    /// Takes the lock as [`Lock::take`] does, with the error `id` when the lock file cannot be made.
    /// Returns `None` when the folder or the lock file was removed meanwhile: the run that held the lock
    /// has uninstalled the agent, and the caller has to make the folder again.
    ///
    /// # Errors
    /// [`ErrorId::LockBusy`] at the deadline, `id`.
    #[must_use]
    pub fn take_or<'a>(
        id: ErrorId,
        folder: &'a Path,
        name: &'a str,
        deadline: Instant,
    ) -> Boxed<'a, Result<Option<Self>>> {
        Box::pin(async move {
            let path = folder.join(name);
            let unwritable = |error: io::Error| super::unwritable(id, &path, &error);
            // A run that changes nothing writes nothing, not even the note with its process id.
            let access = if name == INSTALL_FILE {
                OFlag::O_RDONLY
            } else {
                OFlag::O_RDWR
            };
            // The folder may belong to another user (LyftData's worker): root follows no link there.
            let careful = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
            let opened = super::open(
                &path,
                access | OFlag::O_CREAT | careful,
                Mode::S_IRUSR | Mode::S_IWUSR,
            );
            let mut file = match opened {
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && Instant::now() < deadline =>
                {
                    return Ok(None);
                }
                opened => opened.map_err(unwritable)?,
            };
            let metadata = file.metadata().map_err(unwritable)?;
            let takes_note = check(folder, &path, &file, &metadata).map_err(unwritable)?;
            // The mode of the open is cut by the umask. The next run of this user has to open the file.
            if takes_note && metadata.mode() & 0o600 != 0o600 {
                let permissions = Permissions::from_mode(0o600);
                file.set_permissions(permissions).map_err(unwritable)?;
            }
            let pid_file = wait(&mut file, &path, deadline, unwritable).await?;
            if !is_still(&path, &metadata).map_err(unwritable)? {
                return Ok(None);
            }
            if takes_note && access == OFlag::O_RDWR {
                // For the message of a run that waits: it names this process.
                let note = format!("{}\n", std::process::id());
                file.set_len(0)
                    .and_then(|()| file.write_all_at(note.as_bytes(), 0))
                    .map_err(unwritable)?;
            }
            Ok(Some(Self {
                file,
                pid_file,
                path,
            }))
        })
    }

    /// Returns true when this is the lock `name` of `folder`.
    #[must_use]
    pub fn is(&self, folder: &Path, name: &str) -> bool {
        self.path.parent() == Some(folder) && self.path.ends_with(name)
    }
}

/// Removes the lock `name` of a folder unless a run holds it.
///
/// # Errors
/// The system's error.
pub fn remove_unheld(folder: &Path, name: &str) -> io::Result<()> {
    let path = folder.join(name);
    let careful = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = match super::open(&path, OFlag::O_RDONLY | careful, Mode::empty()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    if file.try_lock().is_ok() && is_still(&path, &file.metadata()?)? {
        atomic::remove(&path)?;
    }
    Ok(())
}

/// Returns true when `name` is the name of a lock file, which can be removed when no run holds the lock.
#[must_use]
pub fn is_lock(name: &str) -> bool {
    let name = name.strip_suffix(pid_file::SUFFIX).unwrap_or(name);
    [FILE, DIALECT_FILE, INSTALL_FILE].contains(&name)
}

/// Refuses a file that is not a lock of the agent. Returns whether a note may be written to the file.
fn check(folder: &Path, path: &Path, file: &File, metadata: &Metadata) -> io::Result<bool> {
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let is_only_name = metadata.nlink() == 1;
    if !trust::only_root_writes(folder) {
        if !is_only_name {
            return Err(io::Error::other("the file has another hard link"));
        }
        return Ok(true);
    }
    // Only root can have put the file there. The service's user could make a hard link to the file, which
    // gives that user no access and must not stop root.
    trust::opened(path, metadata)?;
    if is_only_name && metadata.mode() & 0o077 != 0 && Owner::ours().is_root() {
        // A process that can open the lock file can hold the lock.
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(is_only_name)
}

/// Returns true when `path` still names the file.
fn is_still(path: &Path, file: &Metadata) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(now) => Ok((now.dev(), now.ino()) == (file.dev(), file.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits until the lock is free, and logs once which process holds it. Returns the file of this process on a file
/// system without flock(2).
async fn wait(
    file: &mut File,
    path: &Path,
    deadline: Instant,
    unwritable: impl Fn(io::Error) -> Error,
) -> Result<Option<PidFile>> {
    let mut is_logged = false;
    loop {
        let holder = match file.try_lock() {
            Ok(()) => return Ok(None),
            Err(TryLockError::Error(error)) if lacks_locks(&error) => {
                warn_without_locks(path, &error);
                if let Some(held) = PidFile::take(path).map_err(&unwritable)? {
                    return Ok(Some(held));
                }
                named(pid_file::holder(path))
            }
            Err(TryLockError::Error(error)) => return Err(unwritable(error)),
            Err(TryLockError::WouldBlock) => named(holder(file)),
        };
        if Instant::now() + PAUSE > deadline {
            return Err(
                Error::new(ErrorId::LockBusy, format!("{holder} holds the lock"))
                    .about(path.display()),
            );
        }
        if !is_logged {
            tracing::info!("{holder} is at work on this host; waiting for it to end");
            is_logged = true;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns whether the error is that of a file system without locks (flock(2)).
#[must_use]
pub fn lacks_locks(error: &io::Error) -> bool {
    use nix::libc::{ENOLCK, ENOSYS, EOPNOTSUPP};
    matches!(error.raw_os_error(), Some(ENOLCK | ENOSYS | EOPNOTSUPP))
}

/// Warns once in a run.
fn warn_without_locks(path: &Path, error: &io::Error) {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        tracing::warn!(
            "{}: the file system has no file locks (flock): {error}; a file with the process id is the lock, which other hosts and containers do not respect",
            path.display()
        );
    });
}

/// Returns the process that the note in the lock file names.
fn holder(file: &mut File) -> Option<u32> {
    let mut note = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(16).read_to_string(&mut note).ok()?;
    note.trim().parse().ok()
}

fn named(process: Option<u32>) -> String {
    match process {
        Some(pid) => format!("another monsys-agent (process {pid})"),
        None => "another monsys-agent".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lock_that_is_removed_while_a_run_waits_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let first = Lock::take(folder.path(), FILE, deadline).await.unwrap();
        let waiting = Lock::take_or(ErrorId::StateUnwritable, folder.path(), FILE, deadline);
        let (lock, ()) = tokio::join!(waiting, async {
            tokio::time::sleep(2 * PAUSE).await;
            atomic::remove(&first.path).unwrap();
            drop(first);
        });
        assert!(lock.unwrap().is_none());
        let again = Lock::take(folder.path(), FILE, deadline).await.unwrap();
        assert!(again.path.exists());
        drop(again);
        atomic::remove(&folder.path().join(FILE)).unwrap();
        atomic::remove_folder(folder.path()).unwrap();
        let gone = Lock::take(folder.path(), FILE, deadline).await.unwrap_err();
        assert_eq!(gone.id(), ErrorId::StateUnwritable);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_run_waits_and_names_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let first = Lock::take(folder.path(), FILE, deadline).await.unwrap();
        let error = Lock::take(folder.path(), FILE, deadline).await.unwrap_err();
        assert_eq!(error.id(), ErrorId::LockBusy);
        assert!(error.cause().contains(&std::process::id().to_string()));
        drop(first);
        Lock::take(folder.path(), FILE, Instant::now())
            .await
            .unwrap();
    }
}
