//! Taking back all that `install` did, by its receipt.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use tokio::time::Instant;

use super::checks::{refuse_package, require_root};
use super::locks::Locks;
use super::receipt::{Deed, FOLDER, Receipt};
use super::service::Manager;
use super::system::System;
use super::take_back::{Fate, take_back};
use super::{enrolment_paths, look, plan, service, take_back as taking_back, unwritable, user};
use crate::dialects::DIALECTS;
use agent_core::environment::World;
use agent_core::error::Result;
use agent_core::flags::Flags;
use agent_core::store::atomic::{self, Owner};
use agent_core::store::{lock, names};
use dialect_monsys::{self as monsys, HostFiles};

/// What the service and its privileged step have in memory.
const RUNNING: [&str; 2] = ["/run/monsys", "/run/monsys-step"];
/// How long another installation is waited for.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(5);

/// What an uninstallation came to.
pub struct Uninstalled {
    /// What was removed or taken back, for people.
    pub taken: Vec<String>,
    /// What stays, and why.
    pub left: Vec<(String, String)>,
    /// What makes this host itself, and was not asked to be removed.
    pub kept: Vec<PathBuf>,
    /// This host was an agent of a hub, and now knows nothing of it.
    pub forgets_agent: bool,
}

/// Removes what the service and its privileged step have in memory. The service's user may have put
/// anything there: what cannot be removed goes at the next boot, and stops nothing.
fn remove_running(world: &World) {
    for folder in RUNNING.map(|folder| world.resolved_path(folder)) {
        let names = names(&folder).unwrap_or_default();
        let is_own = |name: &&OsString| {
            let name = name.to_string_lossy();
            name.ends_with(".json") || name == "boot_id" || atomic::is_temporary(&name)
        };
        let removed = names
            .iter()
            .filter(is_own)
            .map(|name| atomic::remove(&folder.join(name)));
        for error in removed
            .chain([atomic::remove_folder(&folder)])
            .filter_map(io::Result::err)
        {
            tracing::debug!("{}: {error}", folder.display());
        }
    }
}

/// Takes back what `install` did. `purge` also removes agent.toml, the host's key and its state.
///
/// # Errors
/// [`agent_core::error::ErrorId::NeedsRoot`], [`agent_core::error::ErrorId::PackageOwned`],
/// [`agent_core::error::ErrorId::ReceiptBroken`], and what stands in the way.
pub async fn uninstall(flags: &Flags, purge: bool, world: &World) -> Result<Uninstalled> {
    require_root("uninstall", world)?;
    // Another user could have put a record there. `install` takes such a folder over.
    world.refuse_foreign_folder(&world.resolved_path(FOLDER))?;
    refuse_package(&Receipt::load(world)?, world)?;
    let deadline = Instant::now() + PATIENCE;
    let locks = Locks::take(world, deadline).await?;
    let mut run = Run {
        world,
        system: System::of(world),
        locks,
        deadline,
        purge,
        uninstalled: Uninstalled {
            taken: Vec::new(),
            left: Vec::new(),
            kept: Vec::new(),
            forgets_agent: false,
        },
    };
    let result = run.go(flags).await;
    run.locks.give_up();
    result.map(|()| run.uninstalled)
}

/// One uninstallation.
struct Run<'a> {
    world: &'a World,
    system: System<'a>,
    locks: Locks,
    deadline: Instant,
    purge: bool,
    uninstalled: Uninstalled,
}

impl Run<'_> {
    async fn go(&mut self, flags: &Flags) -> Result<()> {
        let world = self.world;
        let mut receipt = Receipt::load(world)?;
        refuse_package(&receipt, world)?;
        let manager = Manager::of(world).filter(|manager| manager.runs(world));
        let stops = manager.filter(|_| has_service(&receipt));
        if let Some(manager) = stops {
            // A step of the service may hold the lock, so this comes first.
            manager.stop(&self.system).await?;
        }
        self.locks.take_files(self.deadline).await?;
        let (config, state_dir) = enrolment_paths(flags, world);
        self.locks
            .take_other(&state_dir, lock::FILE, self.deadline)
            .await?;
        // Whoever held the lock may have made the service's group.
        world.forget_access();
        let service = user::find(world);

        self.forget_host(&config, &state_dir)?;
        remove_running(world);
        self.sweep(&receipt, &config, &state_dir);
        // An enrolment that waits for a lock begins as soon as its folder is gone: those come last.
        let is_last = |deed: &Deed| matches!(deed, Deed::MakeFolder { path } if state_dir.starts_with(world.resolved_path(path)) || Path::new(FOLDER).starts_with(path));
        let (last, first): (Vec<Deed>, Vec<Deed>) =
            receipt.done.clone().into_iter().rev().partition(is_last);
        for deed in first {
            self.take_back(deed, &mut receipt).await?;
        }
        if let Some(service) = service.filter(|_| user::find(world).is_none()) {
            self.close_to(service, flags).await;
        }
        if self.purge {
            // An enrolment without an installation made it.
            if let Some(folder) = config.parent() {
                drop(atomic::remove_folder(folder));
            }
        }
        let own = world.resolved_path(FOLDER);
        let (own, last): (Vec<Deed>, Vec<Deed>) = last
            .into_iter()
            .partition(|deed| own.starts_with(world.resolved_path(deed.path())));
        for deed in last {
            self.take_back(deed, &mut receipt).await?;
        }
        if self.purge && state_dir != world.resolved_path(FOLDER) {
            drop(taking_back::remove_folder(&state_dir, world, &self.locks).await);
        }
        for deed in own {
            self.take_back(deed, &mut receipt).await?;
        }
        if self.purge && receipt.done.is_empty() {
            let folder = world.resolved_path(FOLDER);
            drop(taking_back::remove_folder(&folder, world, &self.locks).await);
        }
        if let Some(manager) = stops {
            manager.forget(&self.system).await?;
        }
        Ok(())
    }

    /// Removes what makes this host itself, or closes it to the service's group.
    fn forget_host(&mut self, config: &Path, state_dir: &Path) -> Result<()> {
        let HostFiles { ours, others } = monsys::files(config, state_dir)?;
        if !self.purge {
            look::unshare(&ours, self.world)?;
            self.uninstalled.kept = ours;
            return Ok(());
        }
        for path in others {
            let cause = "it is not what the agent writes there".to_owned();
            let left = &mut self.uninstalled.left;
            left.push((path.display().to_string(), cause));
        }
        self.uninstalled.forgets_agent = ours.iter().any(|path| path.ends_with("agent-id"));
        for path in ours {
            atomic::remove(&path).map_err(|error| unwritable(&path, &error))?;
            self.uninstalled.taken.push(path.display().to_string());
        }
        Ok(())
    }

    async fn take_back(&mut self, deed: Deed, receipt: &mut Receipt) -> Result<()> {
        let world = self.world;
        match take_back(&deed, self.purge, world, &self.system, &self.locks).await {
            Fate::Taken => self.uninstalled.taken.push(deed.to_string()),
            Fate::Gone => {}
            Fate::Left(cause) => {
                self.uninstalled.left.push((deed.to_string(), cause));
                return Ok(());
            }
        }
        receipt.forget(&deed);
        receipt
            .save(world)
            .map_err(|error| unwritable(&world.path(super::RECEIPT), &error))
    }

    /// Removes what killed runs left in every folder that the agent writes to.
    fn sweep(&mut self, receipt: &Receipt, config: &Path, state_dir: &Path) {
        let put = receipt.files().filter_map(Path::parent).map(Path::to_owned);
        let known = plan::folders().chain(service::FOLDERS).chain([FOLDER]);
        let mut folders: Vec<PathBuf> = put
            .chain(known.map(PathBuf::from))
            .map(|folder| self.world.resolved_path(folder))
            .chain(config.parent().map(Path::to_owned))
            .chain([state_dir.to_owned()])
            .collect();
        folders.sort();
        folders.dedup();
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            if let Err(error) = atomic::sweep(folder) {
                let what = format!("what a killed run left in {}", folder.display());
                self.uninstalled.left.push((what, error.to_string()));
            }
        }
    }

    /// Takes from the group of a service user who is gone what an enrolment of any dialect has written for
    /// it: its number may become another group's. Whoever enrols from now on finds no such group.
    async fn close_to(&mut self, service: Owner, flags: &Flags) {
        let world = self.world;
        world.forget_access();
        for dialect in DIALECTS {
            let flags = Flags {
                dialect: Some(dialect.name.to_owned()),
                ..flags.clone()
            };
            let Ok(host) = dialect.open(&flags, world) else {
                continue;
            };
            let Some(folder) = host.folders().into_iter().next() else {
                continue;
            };
            if folder.is_foreign || !folder.path.is_dir() {
                continue;
            }
            let waited = self
                .locks
                .take_other(&folder.path, host.lock_name(), self.deadline)
                .await;
            let closed = waited.and_then(|()| {
                let folders = host.folders().into_iter().map(|folder| folder.path);
                let paths: Vec<PathBuf> = host.service_files().into_iter().chain(folders).collect();
                look::close(&paths, service)
            });
            if let Err(error) = closed {
                let left = &mut self.uninstalled.left;
                left.push((error.what(), error.cause().to_owned()));
            }
        }
    }
}

/// Whether the service is one that `install` has put.
fn has_service(receipt: &Receipt) -> bool {
    let is_of_service =
        |path: &Path| path.starts_with("/etc/systemd") || path.starts_with("/etc/init.d");
    receipt
        .done
        .iter()
        .any(|deed| matches!(deed, Deed::PutFile { path, .. } if is_of_service(path)))
}
