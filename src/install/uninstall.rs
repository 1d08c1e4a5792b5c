//! Taking back all that `install` did, by its receipt.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use tokio::time::Instant;

use super::checks::{refuse_package, require_root};
use super::locks::Locks;
use super::receipt::{FOLDER, Receipt, RecordedChange};
use super::rollback::{Fate, roll_back};
use super::service::Manager;
use super::system::System;
use super::{enrolment_paths, inspect, plan, rollback, service, unwritable, user};
use crate::dialects::DIALECTS;
use agent_core::environment::Environment;
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
fn remove_running(environment: &Environment) {
    for folder in RUNNING.map(|folder| environment.resolved_path(folder)) {
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
pub async fn uninstall(
    flags: &Flags,
    purge: bool,
    environment: &Environment,
) -> Result<Uninstalled> {
    require_root("uninstall", environment)?;
    // Another user could have put a record there. `install` takes such a folder over.
    environment.refuse_foreign_folder(&environment.resolved_path(FOLDER))?;
    refuse_package(&Receipt::load(environment)?, environment)?;
    let deadline = Instant::now() + PATIENCE;
    let locks = Locks::take(environment, deadline).await?;
    let mut run = Run {
        environment,
        system: System::of(environment),
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
    environment: &'a Environment,
    system: System<'a>,
    locks: Locks,
    deadline: Instant,
    purge: bool,
    uninstalled: Uninstalled,
}

impl Run<'_> {
    async fn go(&mut self, flags: &Flags) -> Result<()> {
        let environment = self.environment;
        let mut receipt = Receipt::load(environment)?;
        refuse_package(&receipt, environment)?;
        let manager = Manager::of(environment).filter(|manager| manager.runs(environment));
        let stops = manager.filter(|_| has_service(&receipt));
        if let Some(manager) = stops {
            // A step of the service may hold the lock, so this comes first.
            manager.stop(&self.system).await?;
        }
        self.locks.take_files(self.deadline).await?;
        let (config, state_dir) = enrolment_paths(flags, environment);
        self.locks
            .take_other(&state_dir, lock::FILE, self.deadline)
            .await?;
        // Whoever held the lock may have made the service's group.
        environment.forget_access();
        let service = user::find(environment);

        self.forget_host(&config, &state_dir)?;
        remove_running(environment);
        self.sweep(&receipt, &config, &state_dir);
        // An enrolment that waits for a lock begins as soon as its folder is gone: those come last.
        let is_last = |change: &RecordedChange| matches!(change, RecordedChange::MakeFolder { path } if state_dir.starts_with(environment.resolved_path(path)) || Path::new(FOLDER).starts_with(path));
        let (last, first): (Vec<RecordedChange>, Vec<RecordedChange>) =
            receipt.done.clone().into_iter().rev().partition(is_last);
        for change in first {
            self.roll_back(change, &mut receipt).await?;
        }
        if let Some(service) = service.filter(|_| user::find(environment).is_none()) {
            self.close_to(service, flags).await;
        }
        if self.purge {
            // An enrolment without an installation made it.
            if let Some(folder) = config.parent() {
                drop(atomic::remove_folder(folder));
            }
        }
        let own = environment.resolved_path(FOLDER);
        let (own, last): (Vec<RecordedChange>, Vec<RecordedChange>) = last
            .into_iter()
            .partition(|change| own.starts_with(environment.resolved_path(change.path())));
        for change in last {
            self.roll_back(change, &mut receipt).await?;
        }
        if self.purge && state_dir != environment.resolved_path(FOLDER) {
            drop(rollback::remove_folder(&state_dir, environment, &self.locks).await);
        }
        for change in own {
            self.roll_back(change, &mut receipt).await?;
        }
        if self.purge && receipt.done.is_empty() {
            let folder = environment.resolved_path(FOLDER);
            drop(rollback::remove_folder(&folder, environment, &self.locks).await);
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
            inspect::unshare(&ours, self.environment)?;
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

    async fn roll_back(&mut self, change: RecordedChange, receipt: &mut Receipt) -> Result<()> {
        let environment = self.environment;
        match roll_back(&change, self.purge, environment, &self.system, &self.locks).await {
            Fate::Taken => self.uninstalled.taken.push(change.to_string()),
            Fate::Gone => {}
            Fate::Left(cause) => {
                self.uninstalled.left.push((change.to_string(), cause));
                return Ok(());
            }
        }
        receipt.forget(&change);
        receipt
            .save(environment)
            .map_err(|error| unwritable(&environment.path(super::RECEIPT), &error))
    }

    /// Removes what killed runs left in every folder that the agent writes to.
    fn sweep(&mut self, receipt: &Receipt, config: &Path, state_dir: &Path) {
        let put = receipt.files().filter_map(Path::parent).map(Path::to_owned);
        let known = plan::folders().chain(service::FOLDERS).chain([FOLDER]);
        let mut folders: Vec<PathBuf> = put
            .chain(known.map(PathBuf::from))
            .map(|folder| self.environment.resolved_path(folder))
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
        let environment = self.environment;
        environment.forget_access();
        for dialect in DIALECTS {
            let flags = Flags {
                dialect: Some(dialect.name.to_owned()),
                ..flags.clone()
            };
            let Ok(host) = dialect.open(&flags, environment) else {
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
                inspect::close(&paths, service)
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
        .any(|change| matches!(change, RecordedChange::PutFile { path, .. } if is_of_service(path)))
}
