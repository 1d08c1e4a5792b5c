//! The heartbeat lock: no signed request of the service while the host's key is replaced.
//!
//! While a new key is registered and put in its place, a heartbeat with the other key would look like an
//! attack to the hub, and a registration with the other key would pin that key. So each signed request
//! shares this lock, and a run that changes the key holds the lock exclusively. The lock is an flock(2)
//! on the state directory itself, which the kernel releases when the process dies.
//!
//! flock(2) has no queue: requests that share the lock could keep an exclusive lock out forever. So a run
//! that changes the key first locks the key file, and from then on no request gets a shared lock.
//!
//! On a file system without flock(2), nothing separates them: a heartbeat during a change of the key may be
//! rejected once.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use tokio::time::Instant;

use crate::state::KEY_FILE;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::store::lock::lacks_locks;

/// Pause between two attempts to take a busy lock.
const PAUSE: Duration = Duration::from_millis(50);

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct HeartbeatLock {
    #[expect(dead_code, reason = "holds the lock while it lives")]
    folder: File,
    /// The lock of the key file, which announces an exclusive holder.
    #[expect(dead_code, reason = "holds the lock while it lives")]
    key: Option<File>,
}

impl HeartbeatLock {
    /// Takes a shared lock, for a signed request. Returns `None` while a run changes the key, or waits to
    /// change it.
    ///
    /// # Errors
    /// [`ErrorId::Unreadable`].
    pub(crate) fn share(state_dir: &Path) -> Result<Option<Self>> {
        let unreadable = |error| agent_core::store::unreadable(state_dir, &error);
        let folder = File::open(state_dir).map_err(unreadable)?;
        let key = open_key(state_dir)?;
        for file in key.iter().chain([&folder]) {
            match file.try_lock_shared() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) if lacks_locks(&error) => {}
                Err(TryLockError::Error(error)) => return Err(unreadable(error)),
            }
        }
        // The key file's lock is released, so that a run can announce a change of the key meanwhile.
        Ok(Some(Self { folder, key: None }))
    }

    /// Takes the exclusive lock, for a change of the key. Waits until `deadline` for the request that is
    /// under way, and lets no other request begin.
    ///
    /// # Errors
    /// [`ErrorId::LockBusy`] at the deadline, [`ErrorId::Unreadable`].
    pub(crate) async fn exclusive(state_dir: &Path, deadline: Instant) -> Result<Self> {
        let key = open_key(state_dir)?;
        if let Some(key) = &key {
            lock(key, state_dir, deadline).await?;
        }
        let folder = File::open(state_dir)
            .map_err(|error| agent_core::store::unreadable(state_dir, &error))?;
        lock(&folder, state_dir, deadline).await?;
        Ok(Self { folder, key })
    }
}

async fn lock(file: &File, state_dir: &Path, deadline: Instant) -> Result<()> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) if lacks_locks(&error) => return Ok(()),
            Err(TryLockError::Error(error)) => {
                return Err(agent_core::store::unreadable(state_dir, &error));
            }
        }
        if Instant::now() + PAUSE > deadline {
            return Err(
                Error::new(ErrorId::LockBusy, "a heartbeat of this host is under way")
                    .about(state_dir.display()),
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Opens the key file. Returns `None` where the key is lost: no request can be signed then.
fn open_key(state_dir: &Path) -> Result<Option<File>> {
    let path = state_dir.join(KEY_FILE);
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    match agent_core::store::open(&path, flags, Mode::empty()) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(agent_core::store::unreadable(&path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_core::store::atomic::{self, Owner};

    #[tokio::test(start_paused = true)]
    async fn heartbeats_share_the_lock_and_a_new_key_excludes_them() {
        let folder = tempfile::tempdir().unwrap();
        let soon = Instant::now() + Duration::from_secs(1);
        let one = HeartbeatLock::share(folder.path()).unwrap().unwrap();
        let two = HeartbeatLock::share(folder.path()).unwrap().unwrap();
        let error = HeartbeatLock::exclusive(folder.path(), soon)
            .await
            .unwrap_err();
        assert_eq!(error.id(), ErrorId::LockBusy);
        drop((one, two));
        let exclusive = HeartbeatLock::exclusive(folder.path(), Instant::now())
            .await
            .unwrap();
        assert!(HeartbeatLock::share(folder.path()).unwrap().is_none());
        drop(exclusive);
        assert!(HeartbeatLock::share(folder.path()).unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_exclusive_lock_stops_further_shared_locks() {
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner::of(folder.path()).unwrap();
        let write_key =
            || atomic::write(&folder.path().join(KEY_FILE), b"key", 0o600, owner).unwrap();
        write_key();
        let under_way = HeartbeatLock::share(folder.path()).unwrap().unwrap();
        let later = Instant::now() + Duration::from_mins(1);
        let mut waiting = Box::pin(HeartbeatLock::exclusive(folder.path(), later));
        let waited = tokio::time::timeout(Duration::from_secs(1), &mut waiting).await;
        assert!(waited.is_err(), "a request is under way");
        assert!(
            HeartbeatLock::share(folder.path()).unwrap().is_none(),
            "shared while a run waits"
        );
        drop(under_way);
        assert!(
            HeartbeatLock::share(folder.path()).unwrap().is_none(),
            "shared while a run waits"
        );
        let exclusive = waiting.await.unwrap();
        // The key is replaced while the lock is held.
        write_key();
        assert!(HeartbeatLock::share(folder.path()).unwrap().is_none());
        drop(exclusive);
        assert!(HeartbeatLock::share(folder.path()).unwrap().is_some());
    }
}
