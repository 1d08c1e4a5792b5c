//! One run of a kind on a host at a time: locks on files that only their owner can open.
//!
//! Such a file goes with its folder when an agent is uninstalled. So whoever got the lock looks whether
//! the file is still the one of that name, and else begins anew.

use std::fs::{self, File, Metadata, Permissions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use tokio::time::Instant;

use super::ownership::Owner;
use super::{atomic, trust};
use crate::error::{Error, ErrorId, Result};

/// Name of the lock in the state directory: for all that changes the files of an enrolment.
pub const FILE: &str = "lock";
/// Name of the lock in the folder of another dialect than monsys, which is not the agent's alone.
pub const DIALECT_FILE: &str = ".monsys-enrol.lock";
/// Name of the lock for `install` and `uninstall`. They hold it while the service starts, whose
/// privileged step needs [`FILE`].
pub const INSTALL_FILE: &str = "install.lock";
/// How often a busy lock is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Held until dropped; the kernel frees it when the process dies.
#[derive(Debug)]
pub struct Lock {
    #[expect(dead_code, reason = "holds the lock while it lives")]
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock `name` of a folder that is there, waiting for another run until `deadline`.
    ///
    /// # Errors
    /// [`ErrorId::LockBusy`] at the deadline, [`ErrorId::StateUnwritable`] when there can be none.
    pub async fn take(folder: &Path, name: &str, deadline: Instant) -> Result<Self> {
        let fault = ErrorId::StateUnwritable;
        loop {
            if let Some(lock) = Self::take_or(fault, folder, name, deadline).await? {
                return Ok(lock);
            }
            let there = fs::metadata(folder);
            there.map_err(|error| super::unwritable(fault, folder, &error))?;
        }
    }

    /// As [`Lock::take`], with `fault` when there can be no lock, and `None` when the folder or the lock
    /// was removed meanwhile: whoever held it has removed the agent, and the folder is to be made anew.
    ///
    /// # Errors
    /// [`ErrorId::LockBusy`] at the deadline, `fault`.
    pub async fn take_or(
        fault: ErrorId,
        folder: &Path,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<Self>> {
        let path = folder.join(name);
        let unwritable = |error: io::Error| super::unwritable(fault, &path, &error);
        // A run that has nothing to do writes nothing, not even a note.
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
            Err(error) if error.kind() == io::ErrorKind::NotFound && Instant::now() < deadline => {
                return Ok(None);
            }
            opened => opened.map_err(unwritable)?,
        };
        let metadata = file.metadata().map_err(unwritable)?;
        let takes_note = look_at(folder, &path, &file, &metadata).map_err(unwritable)?;
        wait(&mut file, &path, deadline, unwritable).await?;
        if !is_still(&path, &metadata).map_err(unwritable)? {
            return Ok(None);
        }
        if takes_note && access == OFlag::O_RDWR {
            // Only for the message below: who waits can say for whom.
            let note = format!("{}\n", std::process::id());
            file.set_len(0)
                .and_then(|()| file.write_all_at(note.as_bytes(), 0))
                .map_err(unwritable)?;
        }
        Ok(Some(Self { file, path }))
    }

    /// Whether this is the lock `name` of `folder`.
    #[must_use]
    pub fn is(&self, folder: &Path, name: &str) -> bool {
        self.path.parent() == Some(folder) && self.path.ends_with(name)
    }
}

/// Removes the lock `name` of a folder unless a run holds it.
///
/// # Errors
/// What the system says.
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

/// Whether a file of this name is a lock, which nobody needs when nobody holds it.
#[must_use]
pub fn is_lock(name: &str) -> bool {
    [FILE, DIALECT_FILE, INSTALL_FILE].contains(&name)
}

/// Refuses what is no lock of ours. Returns whether a note may be written there.
fn look_at(folder: &Path, path: &Path, file: &File, metadata: &Metadata) -> io::Result<bool> {
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let is_only_name = metadata.nlink() == 1;
    if !trust::only_root_writes(folder) {
        if !is_only_name {
            return Err(io::Error::other("it has a second name elsewhere"));
        }
        return Ok(true);
    }
    // Nobody but root has put it there. A second name elsewhere opens it to nobody: the service's user
    // could make one, and must not stop root by that.
    trust::opened(path, metadata)?;
    if is_only_name && metadata.mode() & 0o077 != 0 && Owner::ours().is_root() {
        // Whoever can open the lock can hold it.
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(is_only_name)
}

/// Whether `path` still names the file.
fn is_still(path: &Path, file: &Metadata) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(now) => Ok((now.dev(), now.ino()) == (file.dev(), file.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits for its turn, and says once for whom.
async fn wait(
    file: &mut File,
    path: &Path,
    deadline: Instant,
    fault: impl Fn(io::Error) -> Error,
) -> Result<()> {
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(fault(error)),
            Err(TryLockError::WouldBlock) => {}
        }
        let holder = holder(file);
        if Instant::now() + PAUSE > deadline {
            return Err(
                Error::new(ErrorId::LockBusy, format!("{holder} holds the lock"))
                    .about(path.display()),
            );
        }
        if !told {
            tracing::info!("{holder} is at work on this host already; waiting for it to end");
            told = true;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn holder(file: &mut File) -> String {
    let mut note = String::new();
    let read = file
        .seek(SeekFrom::Start(0))
        .and_then(|_| file.take(16).read_to_string(&mut note));
    match read.map(|_| note.trim()) {
        Ok(pid) if pid.parse::<u32>().is_ok() => format!("another monsys-agent (process {pid})"),
        _ => "another monsys-agent".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lock_that_was_removed_while_it_was_waited_for_is_made_anew() {
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
    async fn a_second_run_waits_and_says_for_whom() {
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
