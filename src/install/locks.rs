//! The locks of an installation, in the folder of its install record, which only root can enter or open.
//!
//! A run holds [`lock::INSTALL_FILE`] from its beginning to its end, so that only one installation or
//! uninstallation runs at a time. It holds [`lock::FILE`] while files change, so that no enrolment runs
//! then. It releases that lock while the service starts, because the privileged step of the service takes
//! it. To avoid a deadlock, no holder of `FILE` waits for `INSTALL_FILE`.

use std::path::{Path, PathBuf};

use tokio::time::Instant;

use super::inspect::has_only_temporary_files;
use super::record::FOLDER;
use super::unwritable;
use agent_core::environment::Environment;
use agent_core::error::{ErrorId, Result};
use agent_core::store::atomic::{self, Grant, Owner};
use agent_core::store::lock::{self, FILE, INSTALL_FILE, Lock, is_lock};
use agent_core::store::names;

/// The locks of one run.
pub(super) struct Locks {
    folder: PathBuf,
    /// The folders that were made for the lock, the innermost first.
    made: Vec<PathBuf>,
    install: Lock,
    files: Option<Lock>,
    /// The locks of enrolments whose state is in other folders.
    others: Vec<Lock>,
}

impl Locks {
    /// Waits until no other installation runs. Makes the folder if it does not exist.
    ///
    /// # Errors
    /// [`ErrorId::LockBusy`] at the deadline, [`ErrorId::NotInstallable`], and
    /// [`ErrorId::ForeignOwner`] for a folder in which another user could take the lock.
    pub(super) async fn take(environment: &Environment, deadline: Instant) -> Result<Self> {
        if !environment.root().is_dir() {
            let missing = std::io::ErrorKind::NotFound.into();
            return Err(unwritable(environment.root(), &missing));
        }
        loop {
            let folder = environment.resolved_path(FOLDER);
            let mut made: Vec<PathBuf> = folder
                .ancestors()
                .take_while(|path| !path.exists())
                .map(Path::to_owned)
                .collect();
            let taken = make(&folder).and_then(|()| environment.refuse_foreign_folder(&folder));
            let taken = match taken {
                Ok(()) => {
                    Lock::take_or(ErrorId::NotInstallable, &folder, INSTALL_FILE, deadline).await
                }
                Err(error) => Err(error),
            };
            match taken {
                Ok(Some(install)) => {
                    if !has_only_temporary_files(&folder) {
                        // Another run has just made the folder, and has recorded it in its install record.
                        made.clear();
                    }
                    return Ok(Self {
                        folder,
                        made,
                        install,
                        files: None,
                        others: Vec::new(),
                    });
                }
                Ok(None) => {}
                Err(error) => {
                    remove_made(&folder, &made);
                    return Err(error);
                }
            }
        }
    }

    /// Waits until no enrolment runs in the same folder, and takes its lock.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub(super) async fn take_files(&mut self, deadline: Instant) -> Result<()> {
        if self.files.is_none() {
            self.files = Some(Lock::take(&self.folder, FILE, deadline).await?);
        }
        Ok(())
    }

    /// Lets enrolments run again.
    pub(super) fn release_files(&mut self) {
        self.files = None;
    }

    /// Waits until no enrolment runs in `folder`, and takes its lock, if the folder exists.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub(super) async fn take_other(
        &mut self,
        folder: &Path,
        name: &str,
        deadline: Instant,
    ) -> Result<()> {
        if folder.is_dir() && !self.is_held(folder, name) {
            self.others.push(Lock::take(folder, name, deadline).await?);
        }
        Ok(())
    }

    /// Returns the lock for files, if it is held.
    pub(super) fn files(&self) -> Option<&Lock> {
        self.files.as_ref()
    }

    /// Returns true if this run holds the lock `name` in `folder`.
    pub(super) fn is_held(&self, folder: &Path, name: &str) -> bool {
        let mut held = self.files.iter().chain(&self.others);
        held.any(|lock| lock.is(folder, name))
    }

    /// Returns the folders that did not exist before this run.
    pub(super) fn made(&self) -> &[PathBuf] {
        &self.made
    }

    /// Releases all locks, and removes their files and the folders made for them. In a folder that this
    /// run did not make, the lock file of an enrolment stays. A process that waits for a removed lock
    /// starts again.
    pub(super) fn release_all(self) {
        let Self {
            folder,
            made,
            install,
            files,
            others,
        } = self;
        if let Err(error) = atomic::remove(&folder.join(INSTALL_FILE)) {
            tracing::debug!("{}: {error}", folder.display());
        }
        drop((files, others, install));
        remove_made(&folder, &made);
    }
}

/// Removes the folders that were made for a lock, if they contain only locks that no process holds.
fn remove_made(folder: &Path, made: &[PathBuf]) {
    let is_empty = || {
        names(folder).is_ok_and(|names| names.iter().all(|name| is_lock(&name.to_string_lossy())))
    };
    if made.is_empty() || !is_empty() {
        return;
    }
    let locks = [INSTALL_FILE, FILE].map(|name| lock::remove_unheld(folder, name));
    let folders = made.iter().map(|folder| atomic::remove_folder(folder));
    for error in locks.into_iter().chain(folders).filter_map(Result::err) {
        tracing::debug!("{}: {error}", folder.display());
    }
}

fn make(folder: &Path) -> Result<()> {
    let grant = Grant {
        owner: Owner::ours(),
        mode: 0o700,
    };
    atomic::make_folder(folder, grant).map_err(|(path, error)| unwritable(&path, &error))
}
