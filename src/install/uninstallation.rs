//! One uninstallation: the rollback of all changes in the install record.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use tokio::time::Instant;

use super::checks::{refuse_package, require_root};
use super::locks::Locks;
use super::record::{FOLDER, InstallRecord, RecordedChange};
use super::rollback::{RollbackOutcome, roll_back};
use super::service::ServiceManager;
use super::system_commands::SystemCommands;
use super::{enrolment_paths, inspect, plan, record, rollback, service, unwritable, user};
use crate::dialects::DIALECTS;
use agent_core::ca_copy::CA_COPY;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::inserted::inserted;
use agent_core::store::atomic::{self, Owner};
use agent_core::store::{lock, names};
use dialect_monsys::{self as monsys, HostFiles};

/// The folders in memory of the service and its privileged step.
const RUNTIME_FOLDERS: [&str; 2] = ["/run/monsys", "/run/monsys-step"];
/// The time limit of the waits for other runs.
const LOCK_TIMEOUT: std::time::Duration = std::time::Duration::from_mins(5);

/// The result of an uninstallation.
pub struct Uninstalled {
    /// The removed or restored objects, for people.
    pub removed: Vec<String>,
    /// The objects that stay, each with the reason.
    pub remaining: Vec<(String, String)>,
    /// The files of the host's identity, which stay without `--purge`.
    pub kept: Vec<PathBuf>,
    /// True if this run removed the id of an agent that a hub may still list.
    pub forgets_agent: bool,
}

/// Removes the files in memory of the service and its privileged step. The service's user may have written
/// other files there: those disappear at the next boot, and are not an error.
fn remove_runtime_folders(environment: &Environment) {
    for folder in RUNTIME_FOLDERS.map(|folder| environment.resolved_path(folder)) {
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

/// Undoes what `install` did. With `purge`, also removes agent.toml, the host's key and its state.
///
/// # Errors
/// [`agent_core::error::ErrorId::NeedsRoot`], [`agent_core::error::ErrorId::PackageOwned`],
/// [`agent_core::error::ErrorId::InstallRecordBroken`], [`agent_core::error::ErrorId::LockBusy`], and
/// [`agent_core::error::ErrorId::NotInstallable`].
pub async fn uninstall(
    flags: &Flags,
    purge: bool,
    environment: &Environment,
) -> Result<Uninstalled> {
    require_root("uninstall", environment)?;
    // Another user could have written an install record in a folder that is not root's. `install` takes such a
    // folder over.
    environment.refuse_foreign_folder(&environment.resolved_path(FOLDER))?;
    refuse_package(&InstallRecord::load(environment)?, environment)?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    let locks = Locks::take(environment, deadline).await?;
    let mut uninstallation = Uninstallation {
        environment,
        system: SystemCommands::of(environment),
        locks,
        deadline,
        purge,
        uninstalled: Uninstalled {
            removed: Vec::new(),
            remaining: Vec::new(),
            kept: Vec::new(),
            forgets_agent: false,
        },
    };
    let result = uninstallation.run(flags).await;
    uninstallation.locks.release_all();
    result.map(|()| uninstallation.uninstalled)
}

/// One uninstallation.
struct Uninstallation<'a> {
    environment: &'a Environment,
    system: SystemCommands<'a>,
    locks: Locks,
    deadline: Instant,
    purge: bool,
    uninstalled: Uninstalled,
}

impl Uninstallation<'_> {
    async fn run(&mut self, flags: &Flags) -> Result<()> {
        let environment = self.environment;
        let mut record = InstallRecord::load(environment)?;
        refuse_package(&record, environment)?;
        refuse_lost_record(&record, environment)?;
        let manager = ServiceManager::of(environment)
            .filter(|manager| manager.runs(environment) && has_service(&record));
        if let Some(manager) = manager {
            // The privileged step of the service may hold the lock, so the service stops first.
            manager.stop(&self.system).await?;
        }
        self.locks.take_files(self.deadline).await?;
        let (config, state_dir) = enrolment_paths(flags, environment);
        self.locks
            .take_other(&state_dir, lock::FILE, self.deadline)
            .await?;
        // A former holder of the lock may have made the service's group.
        environment.forget_access();
        let service = user::find(environment);

        self.forget_host(&config, &state_dir)?;
        remove_runtime_folders(environment);
        self.sweep(&record, &config, &state_dir);
        // An enrolment that waits for a lock begins when its folder is gone, so these folders are last.
        let is_last = |change: &RecordedChange| matches!(change, RecordedChange::MakeFolder { path } if state_dir.starts_with(environment.resolved_path(path)) || Path::new(FOLDER).starts_with(path));
        let (last, first): (Vec<RecordedChange>, Vec<RecordedChange>) =
            record.done.clone().into_iter().rev().partition(is_last);
        for change in first {
            self.roll_back(change, &mut record).await?;
        }
        if let Some(service) = service.filter(|_| user::find(environment).is_none()) {
            self.remove_group_access(service, flags).await;
        }
        if self.purge {
            // An enrolment without an installation made this folder.
            if let Some(folder) = config.parent() {
                drop(atomic::remove_folder(folder));
            }
        }
        let own = environment.resolved_path(FOLDER);
        let (own, last): (Vec<RecordedChange>, Vec<RecordedChange>) = last
            .into_iter()
            .partition(|change| own.starts_with(environment.resolved_path(change.path())));
        for change in last {
            self.roll_back(change, &mut record).await?;
        }
        if self.purge && state_dir != environment.resolved_path(FOLDER) {
            drop(rollback::remove_folder(&state_dir, environment, &self.locks).await);
        }
        for change in own {
            self.roll_back(change, &mut record).await?;
        }
        if self.purge && record.done.is_empty() {
            let folder = environment.resolved_path(FOLDER);
            drop(rollback::remove_folder(&folder, environment, &self.locks).await);
        }
        if let Some(manager) = manager {
            manager.forget(&self.system).await?;
        }
        Ok(())
    }

    /// Removes the files of the host's identity with `--purge`, or else the group's access to them.
    fn forget_host(&mut self, config: &Path, state_dir: &Path) -> Result<()> {
        let HostFiles { ours, others } = monsys::files(config, state_dir)?;
        if !self.purge {
            inspect::unshare(&ours, self.environment)?;
            self.uninstalled.kept = ours;
            return Ok(());
        }
        for path in others {
            let cause = "the agent did not write it".to_owned();
            let remaining = &mut self.uninstalled.remaining;
            remaining.push((path.display().to_string(), cause));
        }
        self.uninstalled.forgets_agent = ours.iter().any(|path| path.ends_with("agent-id"));
        // The boot scripts and the Ansible role write a CA there too, before `install` runs.
        let ca = config.with_file_name(CA_COPY);
        let ca = Some(ca).filter(|path| path.symlink_metadata().is_ok_and(|file| file.is_file()));
        for path in ours.into_iter().chain(ca) {
            atomic::remove(&path).map_err(|error| unwritable(&path, &error))?;
            self.uninstalled.removed.push(path.display().to_string());
        }
        Ok(())
    }

    async fn roll_back(
        &mut self,
        change: RecordedChange,
        record: &mut InstallRecord,
    ) -> Result<()> {
        let environment = self.environment;
        match roll_back(&change, self.purge, environment, &self.system, &self.locks).await {
            RollbackOutcome::RolledBack => self.uninstalled.removed.push(change.to_string()),
            RollbackOutcome::AlreadyGone => {}
            RollbackOutcome::Remains(cause) => {
                self.uninstalled.remaining.push((change.to_string(), cause));
                return Ok(());
            }
        }
        record.forget(&change);
        record
            .save(environment)
            .map_err(|error| unwritable(&environment.path(super::INSTALL_RECORD), &error))
    }

    /// Removes the temporary files of killed runs in every folder that the agent writes to.
    fn sweep(&mut self, record: &InstallRecord, config: &Path, state_dir: &Path) {
        let written = record.files().filter_map(Path::parent).map(Path::to_owned);
        let known = plan::program_folders()
            .chain(service::FOLDERS)
            .chain([FOLDER]);
        let folders = written
            .chain(known.map(PathBuf::from))
            .map(|folder| self.environment.resolved_path(folder))
            .chain(config.parent().map(Path::to_owned))
            .chain([state_dir.to_owned()]);
        let folders: BTreeSet<PathBuf> = inserted(folders);
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            if let Err(error) = atomic::sweep(folder) {
                let what = format!("temporary files of a killed run in {}", folder.display());
                self.uninstalled.remaining.push((what, error.to_string()));
            }
        }
    }

    /// Removes the access of a removed service user's group to the files of an enrolment in any dialect,
    /// because the number may become another group's. A later enrolment finds no such group.
    async fn remove_group_access(&mut self, service: Owner, flags: &Flags) {
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
            let done = waited.and_then(|()| {
                let folders = host.folders().into_iter().map(|folder| folder.path);
                let paths: Vec<PathBuf> = host.service_files().into_iter().chain(folders).collect();
                inspect::remove_access(&paths, service)
            });
            if let Err(error) = done {
                let remaining = &mut self.uninstalled.remaining;
                remaining.push((error.what(), error.cause().to_owned()));
            }
        }
    }
}

/// Refuses an installation without an install record: its service would stay, and the run would report success.
fn refuse_lost_record(record: &InstallRecord, environment: &Environment) -> Result<()> {
    let Some(path) = ServiceManager::installed_file(environment)
        .filter(|_| plan::has_lost_record(record, environment))
    else {
        return Ok(());
    };
    let path = environment.path(path);
    let cause = format!(
        "it has no record of {}, which `install` wrote",
        path.display()
    );
    Err(Error::new(ErrorId::InstallRecordBroken, cause)
        .about(environment.path(record::PATH).display())
        .hint("write the install record again: monsys-agent install --no-enrol --no-start; then: monsys-agent uninstall"))
}

/// Returns true if `install` installed the service.
fn has_service(record: &InstallRecord) -> bool {
    let is_of_service =
        |path: &Path| path.starts_with("/etc/systemd") || path.starts_with("/etc/init.d");
    record
        .done
        .iter()
        .any(|change| matches!(change, RecordedChange::PutFile { path, .. } if is_of_service(path)))
}
