//! No signed request of the service while the host's key changes hands: a lock on the state directory
//! itself.
//!
//! While a new key is taken to the hub and into its place, a heartbeat with the other one would be
//! a signature that the hub calls an attack, and a registration with the other one would pin it. So
//! each signed request shares this lock, and who changes the key holds it alone. It is no file of its
//! own, and the kernel frees it when the process dies.
//!
//! flock(2) knows no queue: who waits for a lock alone would be passed by everybody who shares it. So
//! whoever wants it alone first takes the key file's lock, which says so, and nobody shares from there on.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use tokio::time::Instant;

use crate::state::KEY_FILE;
use agent_core::error::{Error, ErrorId, Result};

/// How often a busy lock is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct HeartbeatLock {
    #[expect(dead_code, reason = "holds the lock while it lives")]
    folder: File,
    /// The announcement of who holds it alone.
    #[expect(dead_code, reason = "holds the lock while it lives")]
    key: Option<File>,
}

impl HeartbeatLock {
    /// For signed requests; `None` while the key changes hands, or somebody waits to change it.
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
                Err(TryLockError::Error(error)) => return Err(unreadable(error)),
            }
        }
        // The key's lock goes: whoever wants to change the key can say so meanwhile.
        Ok(Some(Self { folder, key: None }))
    }

    /// For who changes the key: waits for the request that is under way, until `deadline`, and lets no
    /// other one begin.
    ///
    /// # Errors
    /// [`ErrorId::LockBusy`] at the deadline, [`ErrorId::Unreadable`].
    pub(crate) async fn alone(state_dir: &Path, deadline: Instant) -> Result<Self> {
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

/// The key file, if there is one: a host whose key is lost has nothing that a request is signed with.
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
    async fn heartbeats_share_it_and_a_new_key_has_it_alone() {
        let folder = tempfile::tempdir().unwrap();
        let soon = Instant::now() + Duration::from_secs(1);
        let one = HeartbeatLock::share(folder.path()).unwrap().unwrap();
        let two = HeartbeatLock::share(folder.path()).unwrap().unwrap();
        let error = HeartbeatLock::alone(folder.path(), soon).await.unwrap_err();
        assert_eq!(error.id(), ErrorId::LockBusy);
        drop((one, two));
        let alone = HeartbeatLock::alone(folder.path(), Instant::now())
            .await
            .unwrap();
        assert!(HeartbeatLock::share(folder.path()).unwrap().is_none());
        drop(alone);
        assert!(HeartbeatLock::share(folder.path()).unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn from_when_somebody_waits_for_it_nobody_shares_it_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner::of(folder.path()).unwrap();
        let write_key =
            || atomic::write(&folder.path().join(KEY_FILE), b"key", 0o600, owner).unwrap();
        write_key();
        let under_way = HeartbeatLock::share(folder.path()).unwrap().unwrap();
        let later = Instant::now() + Duration::from_mins(1);
        let mut waiting = Box::pin(HeartbeatLock::alone(folder.path(), later));
        let waited = tokio::time::timeout(Duration::from_secs(1), &mut waiting).await;
        assert!(waited.is_err(), "a request is under way");
        assert!(
            HeartbeatLock::share(folder.path()).unwrap().is_none(),
            "passed"
        );
        drop(under_way);
        assert!(
            HeartbeatLock::share(folder.path()).unwrap().is_none(),
            "passed"
        );
        let alone = waiting.await.unwrap();
        // The key is replaced while it is held.
        write_key();
        assert!(HeartbeatLock::share(folder.path()).unwrap().is_none());
        drop(alone);
        assert!(HeartbeatLock::share(folder.path()).unwrap().is_some());
    }
}
