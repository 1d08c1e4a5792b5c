//! `install` and `uninstall`.
//!
//! An installation inspects the host, plans every change, makes the changes, enrols the host, and starts
//! the service. The install record records each change before it is made. So a failed run can be rolled back,
//! and `uninstall` undoes exactly what all runs did. After a hub has accepted the host, a failure rolls
//! nothing back: see `installation.rs`.

mod apply;
mod change;
mod checks;
mod inspect;
mod installation;
mod locks;
mod plan;
pub(crate) mod record;
mod rollback;
mod service;
mod system_commands;
mod uninstallation;
mod user;

use std::io;
use std::path::{Path, PathBuf};

use tokio::time::Instant;

pub use change::{Change, ExistingFile, PutFile};
pub use record::PATH as INSTALL_RECORD;
pub use uninstallation::{Uninstalled, uninstall};
pub use user::USER;

use crate::dialects;
use agent_core::enrolment::Dialect;
use agent_core::enrolment::Enrolment;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::settings::Settings;
use agent_core::store::atomic;
use apply::AppliedChanges;
use checks::{check_enrolment, refuse_package, require_root};
use dialect_monsys::{self as monsys, Deferred, Paths};
use installation::{Acceptance, Installation};
use locks::Locks;
use plan::InstallPlan;
use record::InstallRecord;
use service::ServiceManager;

/// The options of an installation.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent switch of the command line"
)]
pub struct InstallOptions {
    /// The settings among the arguments.
    pub flags: Flags,
    /// `--force`
    pub force: bool,
    /// `--defer`
    pub defer: bool,
    /// `--no-enrol`
    pub no_enrol: bool,
    /// `--no-start`
    pub no_start: bool,
    /// `--ephemeral`
    pub ephemeral: bool,
}

impl InstallOptions {
    /// Returns true if the service is to be started now. In an image, the service would enrol, and every
    /// host made from the image would have the same credential.
    fn starts(&self) -> bool {
        !self.no_start && !self.defer
    }
}

/// The result of an installation.
pub struct Installed {
    /// The changes, made or planned.
    pub changes: Vec<Change>,
    /// True if the run changed anything on the host, or restarted its service.
    pub changed: bool,
    /// The result of the enrolment, if there was one.
    pub enrolled: Option<EnrolOutcome>,
    /// The state of the service, and what the run did to it.
    pub service: ServiceOutcome,
    /// The steps that were not done.
    pub not_done: Vec<NotDone>,
    /// The path of the program on the host.
    pub binary: PathBuf,
}

/// The result of the enrolment that is part of an installation.
pub enum EnrolOutcome {
    /// The result of `enrol`.
    Enrolled(Enrolment),
    /// The result of `enrol --defer`.
    Deferred(Deferred),
}

/// The state of the service after an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceOutcome {
    /// The service was down, and is up now.
    Started,
    /// The service was up, and now runs the new program, unit or credential.
    Restarted,
    /// The service was up, and nothing that it uses has changed.
    Running,
    /// The service is installed, and was not started.
    NotStarted,
    /// The host has no service.
    None,
}

impl ServiceOutcome {
    /// Returns the stable word in `--output json`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Restarted => "restarted",
            Self::Running => "running",
            Self::NotStarted => "not_started",
            Self::None => "none",
        }
    }
}

/// A step that an installation does not do.
pub struct NotDone {
    /// The step.
    pub what: String,
    /// The reason.
    pub cause: String,
    /// The instruction for the operator.
    pub hint: String,
}

/// Plans what [`install`] would do, without changing anything.
///
/// # Errors
/// As [`install`] before its first change.
pub fn preview(options: &InstallOptions, environment: &Environment) -> Result<Installed> {
    let host = dialects::open(&options.flags, environment)?;
    let record = InstallRecord::load(environment)?;
    refuse_package(&record, environment)?;
    check_enrolment(options, environment)?;
    let plan = InstallPlan::of(options, &*host, &record, &[], environment)?;
    let service = match plan.manager {
        Some(manager) if manager.runs(environment) && options.starts() => ServiceOutcome::Started,
        Some(_) => ServiceOutcome::NotStarted,
        None => ServiceOutcome::None,
    };
    Ok(Installed {
        changes: plan.before.into_iter().chain(plan.after).collect(),
        changed: false,
        enrolled: None,
        service,
        not_done: plan.not_done,
        binary: plan.binary,
    })
}

/// Installs the agent as a service, enrols the host and starts the service.
///
/// # Errors
/// [`ErrorId::NeedsRoot`], [`ErrorId::PackageOwned`], [`ErrorId::NotInstallable`],
/// [`ErrorId::SystemCommand`], [`ErrorId::ServiceFailed`], and the errors of
/// [`dialects::enrol`]. If no hub has accepted the host, the run is then rolled back; a key
/// that a hub may have seen stays. On an enrolled host, everything that could be done stays.
pub async fn install(options: &InstallOptions, environment: &Environment) -> Result<Installed> {
    require_root("install", environment)?;
    let record = InstallRecord::load(environment)?;
    refuse_package(&record, environment)?;
    let stopped = take_over(options, environment).await?;
    let installed = under_lock(options, stopped.is_some(), environment).await;
    match (installed, stopped) {
        (Err(InstallFailure::BeforeChanges(error)), Some(manager)) => {
            manager
                .start_again(&system_commands::SystemCommands::of(environment))
                .await;
            Err(error)
        }
        (Err(InstallFailure::BeforeChanges(error) | InstallFailure::DuringRun(error)), _) => {
            Err(error)
        }
        (Ok(installed), _) => Ok(installed),
    }
}

/// The failure of an installation, by its point in time.
enum InstallFailure {
    /// The run failed before its first change.
    BeforeChanges(Error),
    /// The run failed later, and has left the service in the right state.
    DuringRun(Error),
}

async fn under_lock(
    options: &InstallOptions,
    was_up: bool,
    environment: &Environment,
) -> std::result::Result<Installed, InstallFailure> {
    let host =
        dialects::open(&options.flags, environment).map_err(InstallFailure::BeforeChanges)?;
    let deadline = Instant::now() + host.settings().wait.value;
    let mut locks = Locks::take(environment, deadline)
        .await
        .map_err(InstallFailure::BeforeChanges)?;
    let (plan, record) = match planned(options, &*host, &mut locks, deadline, environment).await {
        Ok(planned) => planned,
        Err(error) => {
            locks.release_all();
            return Err(InstallFailure::BeforeChanges(error));
        }
    };
    let acceptance = match host.is_enrolled() {
        Ok(true) => Acceptance::BeforeThisRun,
        _ => Acceptance::None,
    };
    let installation = Installation {
        options,
        host,
        environment,
        locks,
        was_up,
        is_service_touched: was_up,
        manager: plan.manager.filter(|manager| manager.runs(environment)),
        acceptance,
        applied: AppliedChanges::new(environment, record),
        made: Vec::new(),
        failure: None,
    };
    installation
        .run(plan)
        .await
        .map_err(InstallFailure::DuringRun)
}

/// Plans the installation under the lock. Takes the lock for files if the plan changes any.
async fn planned(
    options: &InstallOptions,
    host: &dyn Dialect,
    locks: &mut Locks,
    deadline: Instant,
    environment: &Environment,
) -> Result<(InstallPlan, InstallRecord)> {
    let record = InstallRecord::load(environment)?;
    check_enrolment(options, environment)?;
    let plan = InstallPlan::of(options, host, &record, locks.made(), environment)?;
    // A run without changes writes nothing, and an enrolment takes the lock itself.
    if !(plan.before.is_empty() && plan.after.is_empty()) {
        locks.take_files(deadline).await?;
    }
    let placed = plan.files().chain(record.files());
    let folders = placed
        .filter_map(Path::parent)
        .map(|path| environment.resolved_path(path));
    let of_enrolment = host.folders();
    // Another run may be writing to the folders of the enrolment, and removes temporary files there.
    let is_ours = |folder: &PathBuf| of_enrolment.iter().all(|other| other.path != *folder);
    sweep(folders.filter(is_ours))?;
    Ok((plan, record))
}

/// Takes over the files of an older release, which requires that the service is down. Returns the
/// service manager if this function stopped the service.
async fn take_over(
    options: &InstallOptions,
    environment: &Environment,
) -> Result<Option<ServiceManager>> {
    if dialects::select(&options.flags, environment)?.name != monsys::DESCRIPTOR.name {
        return Ok(None);
    }
    if !monsys::is_foreign(&options.flags, environment)? {
        return Ok(None);
    }
    let commands = system_commands::SystemCommands::of(environment);
    let mut stopped = None;
    if let Some(manager) =
        ServiceManager::of(environment).filter(|manager| manager.runs(environment))
        && manager.is_up(&commands).await?
    {
        manager.stop(&commands).await?;
        stopped = Some(manager);
    }
    if let Err(error) = monsys::take_over(&options.flags, environment) {
        if let Some(manager) = stopped {
            manager.start_again(&commands).await;
        }
        return Err(error);
    }
    Ok(stopped)
}

/// Removes the temporary files of killed runs in `folders`. The caller has the lock of these folders.
fn sweep(folders: impl Iterator<Item = PathBuf>) -> Result<()> {
    for folder in folders.filter(|folder| folder.is_dir()) {
        atomic::sweep(&folder).map_err(|error| unwritable(&folder, &error))?;
    }
    Ok(())
}

/// Returns the paths of agent.toml and of the state directory, even if agent.toml cannot be read.
fn enrolment_paths(flags: &Flags, environment: &Environment) -> (PathBuf, PathBuf) {
    match Settings::resolve(flags, environment) {
        Ok(settings) => {
            let paths = Paths::of(&settings, environment);
            (paths.config, paths.state_dir)
        }
        Err(error) => {
            tracing::warn!("{}: {}", error.what(), error.cause());
            let config = flags.config.as_deref().unwrap_or("/etc/monsys/agent.toml");
            let state_dir = flags.state_dir.as_deref().unwrap_or(record::FOLDER);
            (
                environment.path(config),
                environment.resolved_path(state_dir),
            )
        }
    }
}

/// Returns the error for a path of the installation that cannot be written.
fn unwritable(path: &Path, error: &io::Error) -> Error {
    let unwritable = agent_core::store::unwritable(ErrorId::NotInstallable, path, error);
    if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
        return unwritable.hint("remount it read-write, and run the same command again");
    }
    unwritable
}
