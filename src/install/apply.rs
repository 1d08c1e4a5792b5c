//! The changes of a run: the install record records each before it is made, and all are rolled back when a
//! later step fails.

use std::io;
use std::path::PathBuf;

use super::change::{Change, ExistingFile, PutFile, kept};
use super::locks::Locks;
use super::record::{InstallRecord, RecordedChange};
use super::rollback::{RollbackOutcome, roll_back};
use super::system_commands::SystemCommands;
use super::{unwritable, user};
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::store::atomic::{self, Grant, Owner};

/// The changes that one run has made.
pub(super) struct AppliedChanges<'a> {
    environment: &'a Environment,
    pub(super) system: SystemCommands<'a>,
    pub(super) record: InstallRecord,
    changes: Vec<AppliedChange>,
}

/// A change that this run has made or begun.
struct AppliedChange {
    recorded: RecordedChange,
    /// The former record of the same path in the install record.
    before: Option<RecordedChange>,
    /// The second name of the file that is replaced.
    backup: Option<PathBuf>,
    /// True if the replaced file was installed by a former run, so that its second name is removed when
    /// this run ends.
    is_backup_temporary: bool,
}

impl<'a> AppliedChanges<'a> {
    pub(super) fn new(environment: &'a Environment, record: InstallRecord) -> Self {
        Self {
            environment,
            system: SystemCommands::of(environment),
            record,
            changes: Vec::new(),
        }
    }

    /// Returns true if this run has changed nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Makes one change. Undoes the change if a part of it fails.
    ///
    /// # Errors
    /// [`agent_core::error::ErrorId::NotInstallable`], and
    /// [`agent_core::error::ErrorId::SystemCommand`].
    pub(super) async fn apply(&mut self, change: &Change, locks: &Locks) -> Result<()> {
        let before = self.changes.len();
        let made = self.make(change).await;
        if made.is_err() && self.changes.len() > before {
            self.undo_last(locks).await;
        }
        made
    }

    async fn make(&mut self, change: &Change) -> Result<()> {
        tracing::info!("{change}");
        let path = self.environment.path(change.path());
        let not_written = |error: io::Error| unwritable(&path, &error);
        let Some(recorded) = change.recorded() else {
            return self.share(change);
        };
        let mut done = AppliedChange {
            before: self.record.find(&recorded).cloned(),
            recorded,
            backup: None,
            is_backup_temporary: false,
        };
        if let Change::PutFile(file) = change {
            self.plan_backup(file, &mut done);
        }
        self.record.put(done.recorded.clone());
        let backup = done.backup.clone();
        self.changes.push(done);
        self.save_record()?;
        if let Some(backup) = backup {
            atomic::remove(&backup)
                .and_then(|()| atomic::second_name(&path, &backup))
                .map_err(not_written)?;
        }
        match change {
            Change::MakeUser { .. } => {
                user::make(&self.system, self.environment).await?;
                self.environment.forget_access();
                user::check_made(self.environment)?;
            }
            Change::MakeFolder { mode, .. } => {
                let grant = Grant {
                    owner: Owner::ours(),
                    mode: *mode,
                };
                atomic::make_folder(&path, grant)
                    .map_err(|(path, error)| unwritable(&path, &error))?;
            }
            Change::Share { .. } => {}
            Change::PutFile(file) => {
                atomic::write(&path, &file.bytes, file.mode, Owner::root()).map_err(not_written)?;
            }
            Change::Link { target, .. } => match atomic::link(&path, target) {
                // The link of an installation whose install record is lost.
                Err(_) if std::fs::read_link(&path).is_ok_and(|known| known == *target) => {}
                made => made.map_err(not_written)?,
            },
        }
        // The folder may be the install record's own, which can be written only now.
        match change {
            Change::MakeFolder { .. } => self.save_record(),
            _ => Ok(()),
        }
    }

    /// Lets the service's group read a file of root's, or enter a folder. Skips a path that does not
    /// exist: its later writer sets the same access.
    fn share(&self, change: &Change) -> Result<()> {
        let Change::Share { path, is_folder } = change else {
            return Ok(());
        };
        let access = self.environment.access();
        let grant = if *is_folder {
            access.shared_folder()
        } else {
            access.shared()
        };
        let path = self.environment.path(path);
        match atomic::set_access(&path, grant) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            set => set.map_err(|error| unwritable(&path, &error)),
        }
    }

    /// Selects the second name of the file that is replaced. A file of a former run has that name until
    /// this run ends; a file of somebody else has it until an uninstallation restores it.
    fn plan_backup(&self, file: &PutFile, done: &mut AppliedChange) {
        if let RecordedChange::PutFile {
            sha256,
            kept: kept_as,
            ..
        } = &mut done.recorded
        {
            if let Some(RecordedChange::PutFile {
                sha256: sums, kept, ..
            }) = &done.before
            {
                // If this run is killed, the file may still be the old one.
                sha256.extend(sums.clone());
                kept_as.clone_from(kept);
            }
            let name = kept(&file.path);
            let on_disk = self.environment.path(&name);
            // A former run may have been killed after it recorded the name and before it used the name.
            if file.existing == ExistingFile::Foreign && (kept_as.is_none() || !on_disk.exists()) {
                done.backup = Some(on_disk);
                *kept_as = Some(name);
                return;
            }
        }
        if file.existing != ExistingFile::None {
            done.backup = Some(atomic::aside(&self.environment.path(&file.path)));
            done.is_backup_temporary = true;
        }
    }

    /// Saves the install record. Does nothing while the folder of the install record does not exist.
    fn save_record(&self) -> Result<()> {
        self.record
            .save(self.environment)
            .map_err(|error| unwritable(&self.environment.path(super::record::PATH), &error))
    }

    /// Records that all changes are made. A rollback can still restore the replaced files.
    ///
    /// # Errors
    /// [`agent_core::error::ErrorId::NotInstallable`].
    pub(super) fn record_completion(&mut self) -> Result<()> {
        if self.changes.is_empty() {
            return Ok(());
        }
        for done in &self.changes {
            if let RecordedChange::PutFile { path, sha256, kept } = &done.recorded {
                self.record.put(RecordedChange::PutFile {
                    path: path.clone(),
                    sha256: sha256[..1].to_vec(),
                    kept: kept.clone(),
                });
            }
        }
        self.save_record()
    }

    /// Removes the temporary backups. The next run removes a backup that cannot be removed now.
    pub(super) fn finish(&mut self) {
        let temporary = self.changes.iter().filter(|done| done.is_backup_temporary);
        for backup in temporary.filter_map(|done| done.backup.as_ref()) {
            if let Err(error) = atomic::remove(backup) {
                tracing::warn!("could not remove {}: {error}", backup.display());
            }
        }
    }

    /// Rolls back the changes of this run, the last change first. Logs each change that cannot be rolled
    /// back, which then stays in the install record.
    pub(super) async fn roll_back(&mut self, locks: &Locks) {
        for done in std::mem::take(&mut self.changes).into_iter().rev() {
            self.undo(done, locks).await;
        }
    }

    /// Rolls back the change that has just failed.
    pub(super) async fn undo_last(&mut self, locks: &Locks) {
        if let Some(done) = self.changes.pop() {
            self.undo(done, locks).await;
        }
    }

    async fn undo(&mut self, done: AppliedChange, locks: &Locks) {
        let path = self.environment.path(done.recorded.path());
        let outcome = match &done.backup {
            // The file was not replaced.
            Some(backup) if !backup.exists() => RollbackOutcome::AlreadyGone,
            // rename(2) does nothing if both are names of one file, which was not replaced yet.
            Some(backup) => atomic::rename(backup, &path)
                .and_then(|()| atomic::remove(backup))
                .map_or_else(
                    |error| RollbackOutcome::Remains(error.to_string()),
                    |()| RollbackOutcome::RolledBack,
                ),
            None => roll_back(&done.recorded, false, self.environment, &self.system, locks).await,
        };
        if let RollbackOutcome::Remains(cause) = outcome {
            match done.recorded {
                // The files of an enrolment stay in the folder, so that the next run is the same host.
                RecordedChange::MakeFolder { .. } => {
                    tracing::info!("not removed: {}: {cause}", done.recorded);
                }
                _ => tracing::warn!("not rolled back: {}: {cause}", done.recorded),
            }
        } else if let Some(before) = done.before {
            self.record.put(before);
        } else {
            self.record.forget(&done.recorded);
        }
        if let Err(error) = self.save_record() {
            tracing::warn!("{}: {}", error.what(), error.cause());
        }
    }
}
