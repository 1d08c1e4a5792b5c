//! Doing the changes of a plan, each written into the receipt first, and taking back what this run
//! did when a later step fails.

use std::io;
use std::path::PathBuf;

use super::change::{Change, PutFile, There, kept};
use super::locks::Locks;
use super::receipt::{Receipt, RecordedChange};
use super::rollback::{Fate, roll_back};
use super::system::System;
use super::{unwritable, user};
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::store::atomic::{self, Grant, Owner};

/// The changes of one run.
pub(super) struct Work<'a> {
    environment: &'a Environment,
    pub(super) system: System<'a>,
    pub(super) receipt: Receipt,
    done: Vec<Done>,
}

/// A change that this run made, or was about to.
struct Done {
    recorded: RecordedChange,
    /// What the receipt had of it before.
    before: Option<RecordedChange>,
    /// Where the file is that was replaced.
    room: Option<PathBuf>,
    /// That file is ours too, so its second name goes when the run ends.
    is_room_ours: bool,
}

impl<'a> Work<'a> {
    pub(super) fn new(environment: &'a Environment, receipt: Receipt) -> Self {
        Self {
            environment,
            system: System::of(environment),
            receipt,
            done: Vec::new(),
        }
    }

    /// Whether this run has changed anything.
    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// Makes one change, of which nothing is left when it fails.
    ///
    /// # Errors
    /// [`agent_core::error::ErrorId::NotInstallable`], or what the system's command ended with.
    pub(super) async fn apply(&mut self, change: &Change, locks: &Locks) -> Result<()> {
        let before = self.done.len();
        let made = self.make(change).await;
        if made.is_err() && self.done.len() > before {
            self.undo_last(locks).await;
        }
        made
    }

    async fn make(&mut self, change: &Change) -> Result<()> {
        tracing::info!("{change}");
        let path = self.environment.path(change.path());
        let fault = |error: io::Error| unwritable(&path, &error);
        let Some(recorded) = change.recorded() else {
            return self.share(change);
        };
        let mut done = Done {
            before: self.receipt.find(&recorded).cloned(),
            recorded,
            room: None,
            is_room_ours: false,
        };
        if let Change::PutFile(file) = change {
            self.plan_room(file, &mut done);
        }
        self.receipt.put(done.recorded.clone());
        let room = done.room.clone();
        self.done.push(done);
        self.note()?;
        if let Some(room) = room {
            atomic::remove(&room)
                .and_then(|()| atomic::second_name(&path, &room))
                .map_err(fault)?;
        }
        match change {
            Change::MakeUser => {
                user::make(&self.system).await?;
                self.environment.forget_access();
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
                atomic::write(&path, &file.bytes, file.mode, Owner::root()).map_err(fault)?;
            }
            Change::Link { target, .. } => atomic::link(&path, target).map_err(fault)?,
        }
        // Its folder, if it was this, can be in it now.
        match change {
            Change::MakeFolder { .. } => self.note(),
            _ => Ok(()),
        }
    }

    /// Lets the service's group read a file or enter a folder of root's. What is not there yet is
    /// written so when it is.
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

    /// Decides under which second name the file that is replaced can come back: until the end of
    /// this run when it is ours, and until an uninstallation when it is somebody else's.
    fn plan_room(&self, file: &PutFile, done: &mut Done) {
        if let RecordedChange::PutFile {
            sha256,
            kept: keeps,
            ..
        } = &mut done.recorded
        {
            if let Some(RecordedChange::PutFile {
                sha256: sums, kept, ..
            }) = &done.before
            {
                // The file may be the old one still when this run is killed.
                sha256.extend(sums.clone());
                keeps.clone_from(kept);
            }
            let name = kept(&file.path);
            let on_disk = self.environment.path(&name);
            // A run may have been killed between writing this down and doing it.
            if file.there == There::Foreign && (keeps.is_none() || !on_disk.exists()) {
                done.room = Some(on_disk);
                *keeps = Some(name);
                return;
            }
        }
        if file.there != There::Nothing {
            done.room = Some(atomic::aside(&self.environment.path(&file.path)));
            done.is_room_ours = true;
        }
    }

    /// Writes the receipt; before its folder is made, and after it is gone, there is none.
    fn note(&self) -> Result<()> {
        self.receipt
            .save(self.environment)
            .map_err(|error| unwritable(&self.environment.path(super::receipt::PATH), &error))
    }

    /// Writes down that all changes are made. What was replaced can still be put back.
    ///
    /// # Errors
    /// [`agent_core::error::ErrorId::NotInstallable`].
    pub(super) fn recover(&mut self) -> Result<()> {
        if self.done.is_empty() {
            return Ok(());
        }
        for done in &self.done {
            if let RecordedChange::PutFile { path, sha256, kept } = &done.recorded {
                self.receipt.put(RecordedChange::PutFile {
                    path: path.clone(),
                    sha256: sha256[..1].to_vec(),
                    kept: kept.clone(),
                });
            }
        }
        self.note()
    }

    /// Ends the run: what was kept for going back is removed. What cannot be is removed by the next run.
    pub(super) fn finish(&mut self) {
        for room in self.done.iter().filter(|done| done.is_room_ours) {
            if let Some(room) = &room.room
                && let Err(error) = atomic::remove(room)
            {
                tracing::warn!("{} stays: {error}", room.display());
            }
        }
    }

    /// Takes back what this run did, the last thing first. What cannot be taken back is told, and
    /// stays in the receipt.
    pub(super) async fn roll_back(&mut self, locks: &Locks) {
        for done in std::mem::take(&mut self.done).into_iter().rev() {
            self.undo(done, locks).await;
        }
    }

    /// Takes back what is left of the change that has just failed.
    pub(super) async fn undo_last(&mut self, locks: &Locks) {
        if let Some(done) = self.done.pop() {
            self.undo(done, locks).await;
        }
    }

    async fn undo(&mut self, done: Done, locks: &Locks) {
        let path = self.environment.path(done.recorded.path());
        let fate = match &done.room {
            // It was not come to.
            Some(room) if !room.exists() => Fate::Gone,
            // When both are names of one file, it was not replaced yet, and nothing happens.
            Some(room) => atomic::rename(room, &path)
                .and_then(|()| atomic::remove(room))
                .map_or_else(|error| Fate::Left(error.to_string()), |()| Fate::Taken),
            None => roll_back(&done.recorded, false, self.environment, &self.system, locks).await,
        };
        if let Fate::Left(cause) = fate {
            match done.recorded {
                // What an enrolment made stays, so that the next run is the same host.
                RecordedChange::MakeFolder { .. } => {
                    tracing::info!("{} stays: {cause}", done.recorded);
                }
                _ => tracing::warn!("{} stays: {cause}", done.recorded),
            }
        } else if let Some(before) = done.before {
            self.receipt.put(before);
        } else {
            self.receipt.forget(&done.recorded);
        }
        if let Err(error) = self.note() {
            tracing::warn!("{}: {}", error.what(), error.cause());
        }
    }
}
