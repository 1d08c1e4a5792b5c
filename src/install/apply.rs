//! Doing the changes of a plan, each written into the receipt first, and taking back what this run
//! did when a later step fails.

use std::io;
use std::path::PathBuf;

use super::change::{Change, PutFile, There, kept};
use super::receipt::{Deed, Receipt};
use super::system::System;
use super::take_back::{Fate, take_back};
use super::{unwritable, user};
use crate::error::Result;
use crate::store::atomic::{self, Owner};
use crate::world::World;

/// The changes of one run.
pub(super) struct Work<'a> {
    world: &'a World,
    pub(super) system: System<'a>,
    pub(super) receipt: Receipt,
    done: Vec<Done>,
}

/// A change that this run made, or was about to.
struct Done {
    deed: Deed,
    /// What the receipt had of it before.
    before: Option<Deed>,
    /// Where the file that was replaced is for now.
    aside: Option<PathBuf>,
}

impl<'a> Work<'a> {
    pub(super) fn new(world: &'a World, receipt: Receipt) -> Self {
        Self {
            world,
            system: System::of(world),
            receipt,
            done: Vec::new(),
        }
    }

    /// Whether this run has changed anything.
    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// Makes one change.
    ///
    /// # Errors
    /// [`crate::error::ErrorId::NotInstallable`], or what the system's command ended with.
    pub(super) async fn apply(&mut self, change: &Change) -> Result<()> {
        tracing::info!("{change}");
        let path = self.world.path(change.path());
        let fault = |error: io::Error| unwritable(&path, &error);
        let mut done = Done {
            deed: change.deed(),
            before: self.receipt.find(&change.deed()).cloned(),
            aside: None,
        };
        if let Change::PutFile(file) = change {
            self.make_room(file, &mut done).map_err(fault)?;
        }
        self.receipt.put(done.deed.clone());
        self.done.push(done);
        self.note()?;
        match change {
            Change::MakeUser => user::make(&self.system).await?,
            Change::MakeFolder { mode, .. } => {
                atomic::make_folder(&path, *mode)
                    .map_err(|(path, error)| unwritable(&path, &error))?;
            }
            Change::Give { .. } => {
                if let Some(service) = user::find(self.world) {
                    atomic::give(&path, service).map_err(fault)?;
                }
            }
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

    /// Gives what is in the file's place a second name, so that it can come back.
    fn make_room(&self, file: &PutFile, done: &mut Done) -> io::Result<()> {
        let path = self.world.path(&file.path);
        let old = match &done.before {
            Some(Deed::PutFile { sha256, kept, .. }) => Some((sha256.clone(), kept.clone())),
            _ => None,
        };
        if let Deed::PutFile {
            sha256,
            kept: keeps,
            ..
        } = &mut done.deed
        {
            let (old_sums, old_kept) = old.unwrap_or_default();
            // The file may be the old one still when this run is killed.
            sha256.extend(old_sums);
            *keeps = old_kept;
            if file.there == There::Foreign && keeps.is_none() {
                let name = kept(&file.path);
                atomic::remove(&self.world.path(&name))?;
                atomic::second_name(&path, &self.world.path(&name))?;
                *keeps = Some(name);
                return Ok(());
            }
        }
        if file.there != There::Nothing {
            let aside = atomic::aside(&path);
            atomic::remove(&aside)?;
            atomic::second_name(&path, &aside)?;
            done.aside = Some(aside);
        }
        Ok(())
    }

    /// Writes the receipt; before its folder is made, and after it is gone, there is none.
    fn note(&self) -> Result<()> {
        self.receipt
            .save(self.world)
            .map_err(|error| unwritable(&self.world.path(super::receipt::PATH), &error))
    }

    /// Ends the run: what was kept for going back is removed, and the receipt is final.
    ///
    /// # Errors
    /// [`crate::error::ErrorId::NotInstallable`].
    pub(super) fn finish(&mut self) -> Result<()> {
        if self.done.is_empty() {
            return Ok(());
        }
        for done in &self.done {
            if let Some(aside) = &done.aside {
                atomic::remove(aside).map_err(|error| unwritable(aside, &error))?;
            }
            if let Deed::PutFile { path, sha256, kept } = &done.deed {
                self.receipt.put(Deed::PutFile {
                    path: path.clone(),
                    sha256: sha256[..1].to_vec(),
                    kept: kept.clone(),
                });
            }
        }
        self.note()
    }

    /// Takes back what this run did, the last thing first. What cannot be taken back is told, and
    /// stays in the receipt.
    pub(super) async fn roll_back(&mut self) {
        for done in std::mem::take(&mut self.done).into_iter().rev() {
            let fate = match &done.aside {
                Some(aside) => atomic::rename(aside, &self.world.path(done.deed.path()))
                    .map_or_else(|error| Fate::Left(error.to_string()), |()| Fate::Taken),
                None => take_back(&done.deed, false, self.world, &self.system).await,
            };
            if let Fate::Left(why) = fate {
                match done.deed {
                    // What an enrolment made stays, so that the next run is the same host.
                    Deed::MakeFolder { .. } => tracing::info!("{} stays: {why}", done.deed),
                    _ => tracing::warn!("{} stays: {why}", done.deed),
                }
            } else if let Some(before) = done.before {
                self.receipt.put(before);
            } else {
                self.receipt.forget(&done.deed);
            }
            if let Err(error) = self.note() {
                tracing::warn!("{}: {}", error.what(), error.why());
            }
        }
    }
}
