//! `install` and `uninstall`: look at the host, plan every change, make them one by one, enrol,
//! start the service. Each change is in the receipt before it is made, so that a failure takes
//! back what the run did, and `uninstall` takes back exactly what all runs did. Once a hub has accepted
//! the host, a failure takes nothing back: see `run.rs`.

mod apply;
mod change;
mod checks;
mod inspect;
mod locks;
mod plan;
pub(crate) mod receipt;
mod rollback;
mod run;
mod service;
mod system;
mod uninstall;
mod user;

use std::io;
use std::path::{Path, PathBuf};

use tokio::time::Instant;

pub use change::{Change, PutFile, There};
pub use receipt::PATH as RECEIPT;
pub use uninstall::{Uninstalled, uninstall};
pub use user::USER;

use crate::dialects;
use agent_core::enrolment::Dialect;
use agent_core::enrolment::Enrolment;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::settings::Settings;
use agent_core::store::atomic;
use apply::Work;
use checks::{check_enrolment, refuse_package, require_root};
use dialect_monsys::{self as monsys, Deferred, Paths};
use locks::Locks;
use plan::Plan;
use receipt::Receipt;
use run::{Admission, Run};
use service::Manager;

/// What was asked for.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches, as the user gives them"
)]
pub struct Options {
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

impl Options {
    /// Whether the service is to be started now. In an image it would enrol, and every host made
    /// from the image would begin as this one.
    fn starts(&self) -> bool {
        !self.no_start && !self.defer
    }
}

/// What an installation came to.
pub struct Installed {
    /// The changes, made or planned.
    pub changes: Vec<Change>,
    /// Whether anything on the host, or at its service, was changed.
    pub changed: bool,
    /// What the enrolment came to, if there was one.
    pub enrolled: Option<Enrolled>,
    /// What was done with the service.
    pub service: Service,
    /// What was not done, and why.
    pub not_done: Vec<NotDone>,
    /// Where the binary is, on the host.
    pub binary: PathBuf,
}

/// What the enrolment came to.
pub enum Enrolled {
    /// As `enrol` has it.
    Now(Enrolment),
    /// As `enrol --defer` has it.
    Deferred(Deferred),
}

/// What was done with the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// It was not up, and is.
    Started,
    /// It was up, and runs the new binary, unit or credential.
    Restarted,
    /// It was up, and nothing of it has changed.
    Running,
    /// It is in place, and was not started.
    NotStarted,
    /// There is none.
    None,
}

impl Service {
    /// Stable word, as in `--output json`.
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

/// Something that an installation leaves to others.
pub struct NotDone {
    /// What.
    pub what: String,
    /// Why.
    pub cause: String,
    /// Who does it, or what does.
    pub hint: String,
}

/// What [`install`] would do, without changing anything.
///
/// # Errors
/// What [`install`] would end with before its first change.
pub fn preview(options: &Options, environment: &Environment) -> Result<Installed> {
    let host = dialects::open(&options.flags, environment)?;
    let receipt = Receipt::load(environment)?;
    refuse_package(&receipt, environment)?;
    check_enrolment(options, environment)?;
    let plan = Plan::of(options, &*host, &receipt, &[], environment)?;
    let service = match plan.manager {
        Some(manager) if manager.runs(environment) && options.starts() => Service::Started,
        Some(_) => Service::NotStarted,
        None => Service::None,
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
/// [`ErrorId::SystemCommand`], [`ErrorId::ServiceFailed`], and all that [`agent_core::enrolment::enrol`] can
/// end with. On a host that no hub has accepted, what this run had done is then taken back; a key that a
/// hub may have seen stays. On one that is enrolled, all that could be done stays.
pub async fn install(options: &Options, environment: &Environment) -> Result<Installed> {
    require_root("install", environment)?;
    let receipt = Receipt::load(environment)?;
    refuse_package(&receipt, environment)?;
    let stopped = take_over(options, environment).await?;
    let installed = under_lock(options, stopped.is_some(), environment).await;
    match (installed, stopped) {
        (Err(Stop::Before(error)), Some(manager)) => {
            manager.start_again(&system::System::of(environment)).await;
            Err(error)
        }
        (Err(Stop::Before(error) | Stop::Run(error)), _) => Err(error),
        (Ok(installed), _) => Ok(installed),
    }
}

/// Where an installation ended.
enum Stop {
    /// Before its first change.
    Before(Error),
    /// Later; the service is as it should be then.
    Run(Error),
}

async fn under_lock(
    options: &Options,
    was_up: bool,
    environment: &Environment,
) -> std::result::Result<Installed, Stop> {
    let host = dialects::open(&options.flags, environment).map_err(Stop::Before)?;
    let deadline = Instant::now() + host.settings().wait;
    let mut locks = Locks::take(environment, deadline)
        .await
        .map_err(Stop::Before)?;
    let (plan, receipt) = match planned(options, &*host, &mut locks, deadline, environment).await {
        Ok(planned) => planned,
        Err(error) => {
            locks.give_up();
            return Err(Stop::Before(error));
        }
    };
    let admission = match host.is_enrolled() {
        Ok(true) => Admission::Before,
        _ => Admission::None,
    };
    let run = Run {
        options,
        host,
        environment,
        locks,
        was_up,
        is_service_touched: was_up,
        manager: plan.manager.filter(|manager| manager.runs(environment)),
        admission,
        work: Work::new(environment, receipt),
        made: Vec::new(),
        failure: None,
    };
    run.end(plan).await.map_err(Stop::Run)
}

/// What the host needs, with the locks that it takes to do it.
async fn planned(
    options: &Options,
    host: &dyn Dialect,
    locks: &mut Locks,
    deadline: Instant,
    environment: &Environment,
) -> Result<(Plan, Receipt)> {
    let receipt = Receipt::load(environment)?;
    check_enrolment(options, environment)?;
    let plan = Plan::of(options, host, &receipt, locks.made(), environment)?;
    // A run that changes nothing writes nothing, and an enrolment takes the lock by itself.
    if !(plan.before.is_empty() && plan.after.is_empty()) {
        locks.take_files(deadline).await?;
    }
    let placed = plan.files().chain(receipt.files());
    let folders = placed
        .filter_map(Path::parent)
        .map(|path| environment.resolved_path(path));
    let of_enrolment = host.folders();
    // Another run may write to those of the enrolment in this moment; it sweeps there by itself.
    let is_ours = |folder: &PathBuf| of_enrolment.iter().all(|other| other.path != *folder);
    sweep(folders.filter(is_ours))?;
    Ok((plan, receipt))
}

/// Takes over the files of an older release, for which the service has to be down. Returns the manager
/// if it had to stop the service.
async fn take_over(options: &Options, environment: &Environment) -> Result<Option<Manager>> {
    if dialects::select(&options.flags, environment)?.name != monsys::DESCRIPTOR.name {
        return Ok(None);
    }
    if !monsys::is_foreign(&options.flags, environment)? {
        return Ok(None);
    }
    let commands = system::System::of(environment);
    let mut stopped = None;
    if let Some(manager) = Manager::of(environment).filter(|manager| manager.runs(environment))
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

/// Removes what killed runs left in `folders`, which nobody else writes to in this moment.
fn sweep(folders: impl Iterator<Item = PathBuf>) -> Result<()> {
    for folder in folders.filter(|folder| folder.is_dir()) {
        atomic::sweep(&folder).map_err(|error| unwritable(&folder, &error))?;
    }
    Ok(())
}

/// Where the enrolment's files are, also when agent.toml cannot be read.
fn enrolment_paths(flags: &Flags, environment: &Environment) -> (PathBuf, PathBuf) {
    match Settings::resolve(flags, environment) {
        Ok(settings) => {
            let paths = Paths::of(&settings, environment);
            (paths.config, paths.state_dir)
        }
        Err(error) => {
            tracing::warn!("{}: {}", error.what(), error.cause());
            let config = flags.config.as_deref().unwrap_or("/etc/monsys/agent.toml");
            let state_dir = flags.state_dir.as_deref().unwrap_or(receipt::FOLDER);
            (
                environment.path(config),
                environment.resolved_path(state_dir),
            )
        }
    }
}

/// The error for a path of the installation.
fn unwritable(path: &Path, error: &io::Error) -> Error {
    let told = agent_core::store::unwritable(ErrorId::NotInstallable, path, error);
    if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
        return told.hint("remount it read-write, and run the same command again");
    }
    told
}
