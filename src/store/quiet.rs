//! No heartbeat while the host's key changes hands: a lock on the state directory itself.
//!
//! While a new key is taken to the hub and into its place, a heartbeat with the other one would be
//! a signature that the hub calls an attack. So each heartbeat shares this lock, and who changes
//! the key holds it alone. It is no file of its own, and the kernel frees it when the process dies.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, ErrorId, Result};

/// How often a busy lock is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// Held until dropped.
#[derive(Debug)]
pub struct Quiet(#[expect(dead_code, reason = "holds the lock while it lives")] File);

impl Quiet {
    /// For one heartbeat; `None` while the key changes hands.
    ///
    /// # Errors
    /// [`ErrorId::Unreadable`].
    pub fn share(state_dir: &Path) -> Result<Option<Self>> {
        let folder = open(state_dir)?;
        match folder.try_lock_shared() {
            Ok(()) => Ok(Some(Self(folder))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(super::unreadable(state_dir, &error)),
        }
    }

    /// For who changes the key: waits for the heartbeat that is under way, until `deadline`.
    ///
    /// # Errors
    /// [`ErrorId::LockBusy`] at the deadline, [`ErrorId::Unreadable`].
    pub async fn alone(state_dir: &Path, deadline: Instant) -> Result<Self> {
        let folder = open(state_dir)?;
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(Self(folder)),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(super::unreadable(state_dir, &error));
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
}

fn open(state_dir: &Path) -> Result<File> {
    File::open(state_dir).map_err(|error| super::unreadable(state_dir, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn heartbeats_share_it_and_a_new_key_has_it_alone() {
        let folder = tempfile::tempdir().unwrap();
        let soon = Instant::now() + Duration::from_secs(1);
        let one = Quiet::share(folder.path()).unwrap().unwrap();
        let two = Quiet::share(folder.path()).unwrap().unwrap();
        let error = Quiet::alone(folder.path(), soon).await.unwrap_err();
        assert_eq!(error.id(), ErrorId::LockBusy);
        drop((one, two));
        let alone = Quiet::alone(folder.path(), Instant::now()).await.unwrap();
        assert!(Quiet::share(folder.path()).unwrap().is_none());
        drop(alone);
        assert!(Quiet::share(folder.path()).unwrap().is_some());
    }
}
