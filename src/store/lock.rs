//! One enrolment of a host at a time: a lock on a file in the state directory.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use tokio::time::Instant;

use super::owner::Owner;
use super::trust;
use crate::error::{Error, ErrorId, Result};

/// Name of the file in the state directory.
pub const FILE: &str = "lock";
/// How often a busy lock is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Held until dropped; the kernel frees it when the process dies.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "holds the lock while it lives")] File);

impl Lock {
    /// Takes the lock `name` of a state directory, waiting for another run until `deadline`.
    ///
    /// # Errors
    /// [`ErrorId::LockBusy`] at the deadline, [`ErrorId::StateUnwritable`] when there can be none.
    pub async fn take(state_dir: &Path, name: &str, deadline: Instant) -> Result<Self> {
        Self::take_or(ErrorId::StateUnwritable, state_dir, name, deadline).await
    }

    /// As [`Lock::take`], in a folder for which `fault` is told when there can be no lock.
    ///
    /// # Errors
    /// [`ErrorId::LockBusy`] at the deadline, `fault`.
    pub(crate) async fn take_or(
        fault: ErrorId,
        state_dir: &Path,
        name: &str,
        deadline: Instant,
    ) -> Result<Self> {
        let path = state_dir.join(name);
        let unwritable = |error: io::Error| super::unwritable(fault, &path, &error);
        // The folder may belong to another user (LyftData's worker): root follows no link there, and
        // writes into no file that has a second name elsewhere.
        let careful = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let mut file = super::open(
            &path,
            OFlag::O_RDWR | OFlag::O_CREAT | careful,
            Mode::S_IRUSR | Mode::S_IWUSR,
        )
        .map_err(unwritable)?;
        let metadata = file.metadata().map_err(unwritable)?;
        if !metadata.is_file() {
            return Err(unwritable(io::Error::other("it is not a regular file")));
        }
        if Owner::of(state_dir).is_ok_and(Owner::is_root) {
            // Whoever can open the lock can hold it.
            trust::opened(&path, &metadata).map_err(unwritable)?;
        }
        if metadata.nlink() > 1 {
            return Err(unwritable(io::Error::other(
                "it has a second name elsewhere",
            )));
        }
        wait(&mut file, &path, deadline, unwritable).await?;
        // Only for the message above: who waits can say for whom.
        let note = format!("{}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.write_all_at(note.as_bytes(), 0))
            .map_err(unwritable)?;
        Ok(Self(file))
    }

    /// Takes the lock on a folder itself, which leaves nothing behind, waiting until `deadline`.
    ///
    /// # Errors
    /// [`ErrorId::LockBusy`] at the deadline, [`ErrorId::Unreadable`] when there can be none.
    pub async fn take_folder(folder: &Path, deadline: Instant) -> Result<Self> {
        let unreadable = |error: io::Error| super::unreadable(folder, &error);
        let mut file = File::open(folder).map_err(unreadable)?;
        wait(&mut file, folder, deadline, unreadable).await?;
        Ok(Self(file))
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
    async fn a_second_run_waits_and_says_for_whom() {
        let folder = tempfile::tempdir().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let first = Lock::take(folder.path(), FILE, deadline).await.unwrap();
        let error = Lock::take(folder.path(), FILE, deadline).await.unwrap_err();
        assert_eq!(error.id(), ErrorId::LockBusy);
        assert!(error.why().contains(&std::process::id().to_string()));
        drop(first);
        Lock::take(folder.path(), FILE, Instant::now())
            .await
            .unwrap();
    }
}
