//! `install` and `uninstall`: look at the host, plan every change, make them one by one, enrol,
//! start the service. Each change is in the receipt before it is made, so that a failure takes
//! back what the run did, and `uninstall` takes back exactly what all runs did.

mod apply;
mod change;
mod checks;
mod look;
mod plan;
pub(crate) mod receipt;
mod service;
mod system;
mod take_back;
mod uninstall;
mod user;

use std::io;
use std::path::{Path, PathBuf};

use tokio::time::Instant;

pub use change::{Change, PutFile, There};
pub use receipt::PATH as RECEIPT;
pub use uninstall::{Uninstalled, uninstall};
pub use user::USER;

use crate::dialect::monsys::{self, Deferred, Paths};
use crate::dialect::{self, Dialect, System};
use crate::enrolment::{self, Enrolment};
use crate::error::{Error, ErrorId, Result};
use crate::settings::{Flags, Settings};
use crate::store::atomic;
use crate::store::lock::Lock;
use crate::world::World;
use apply::Work;
use checks::{check_enrolment, refuse_package, require_root};
use plan::Plan;
use receipt::Receipt;
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
    pub why: String,
    /// Who does it, or what does.
    pub mend: String,
}

/// What [`install`] would do, without changing anything.
///
/// # Errors
/// What [`install`] would end with before its first change.
pub fn preview(options: &Options, world: &World) -> Result<Installed> {
    let host = dialect::open(&options.flags, world)?;
    let receipt = Receipt::load(world)?;
    refuse_package(&receipt, world)?;
    check_enrolment(options, world)?;
    let plan = Plan::of(options, &*host, &receipt, world)?;
    let service = match plan.manager {
        Some(manager) if manager.runs(world) && options.starts() => Service::Started,
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
/// [`ErrorId::SystemCommand`], [`ErrorId::ServiceFailed`], and all that [`enrolment::enrol`] can
/// end with. What this run had done is then taken back; a key that a hub may have seen stays.
pub async fn install(options: &Options, world: &World) -> Result<Installed> {
    require_root("install", world)?;
    let receipt = Receipt::load(world)?;
    refuse_package(&receipt, world)?;
    let was_up = take_over(options, world).await?;
    let host = dialect::open(&options.flags, world)?;
    let deadline = Instant::now() + host.settings().wait;
    let turn = Lock::take_folder(world.root(), deadline).await?;
    let receipt = Receipt::load(world)?;
    check_enrolment(options, world)?;
    let plan = Plan::of(options, &*host, &receipt, world)?;
    sweep(&plan, world)?;
    let mut run = Run {
        options,
        host,
        world,
        was_up,
        is_service_touched: was_up,
        manager: plan.manager.filter(|manager| manager.runs(world)),
        work: Work::new(world, receipt),
    };
    let installed = match run.go(plan).await {
        Ok(installed) => run.work.finish().map(|()| installed),
        failed => failed,
    };
    if installed.is_err() {
        run.roll_back().await;
    }
    drop(turn);
    installed
}

/// Takes over the files of an older release, for which the service has to be down. Returns whether it
/// was up.
async fn take_over(options: &Options, world: &World) -> Result<bool> {
    if System::of(&options.flags, world)? != System::Monsys {
        return Ok(false);
    }
    if !monsys::is_foreign(&options.flags, world)? {
        return Ok(false);
    }
    let commands = system::System::of(world);
    let manager = Manager::of(world).filter(|manager| manager.runs(world));
    let was_up = match manager {
        Some(manager) => manager.is_up(&commands).await?,
        None => false,
    };
    if let Some(manager) = manager.filter(|_| was_up) {
        manager.stop(&commands).await?;
    }
    monsys::take_over(&options.flags, world)?;
    Ok(was_up)
}

/// One installation.
struct Run<'a> {
    options: &'a Options,
    host: Box<dyn Dialect + 'a>,
    world: &'a World,
    /// The service was up before.
    was_up: bool,
    /// This run has started or restarted it, or tried to.
    is_service_touched: bool,
    /// The manager, if it takes commands.
    manager: Option<Manager>,
    work: Work<'a>,
}

impl Run<'_> {
    async fn go(&mut self, plan: Plan) -> Result<Installed> {
        let is_stopped = self.was_up;
        if let Some(manager) = self.manager {
            self.was_up |= manager.is_up(&self.work.system).await?;
        }
        for change in &plan.before {
            self.work.apply(change).await?;
        }
        self.label(&plan.before).await?;
        let mut changes = plan.before;
        let enrolled = self.enrol(&plan.flags).await?;
        // A folder that this run made is shared once the group is there, and it is in the record.
        if plan.manager.is_some() && user::find(self.world).is_some() {
            for change in look::shares(&*self.host, &self.work.receipt, self.world) {
                self.work.apply(&change).await?;
                changes.push(change);
            }
        }
        for change in plan.after {
            self.work.apply(&change).await?;
            changes.push(change);
        }
        let has_new_credential = match &enrolled {
            Some(Enrolled::Now(enrolment)) => enrolment.changed,
            Some(Enrolled::Deferred(deferred)) => deferred.changed,
            None => false,
        };
        let is_new = has_new_credential
            || is_stopped
            || changes
                .iter()
                .any(|change| matches!(change, Change::PutFile(_)));
        let service = self.service(plan.manager, is_new).await?;
        Ok(Installed {
            changed: !self.work.is_empty()
                || has_new_credential
                || [Service::Started, Service::Restarted].contains(&service),
            changes,
            enrolled,
            service,
            not_done: plan.not_done,
            binary: plan.binary,
        })
    }

    async fn enrol(&self, flags: &Flags) -> Result<Option<Enrolled>> {
        if self.options.no_enrol {
            return Ok(None);
        }
        if self.options.defer {
            let deferred = monsys::defer(flags, self.world).await?;
            return Ok(Some(Enrolled::Deferred(deferred)));
        }
        let enrolment = enrolment::enrol(flags, self.options.force, self.world).await?;
        Ok(Some(Enrolled::Now(enrolment)))
    }

    /// Gives what was put the labels of its place, where there are labels (`SELinux`).
    async fn label(&self, changes: &[Change]) -> Result<()> {
        let paths: Vec<&str> = changes
            .iter()
            .filter(|change| !matches!(change, Change::MakeUser))
            .filter_map(|change| change.path().to_str())
            .collect();
        if paths.is_empty() || !self.work.system.has("restorecon") {
            return Ok(());
        }
        let arguments = [&["-F"][..], &paths].concat();
        self.work.system.run("restorecon", &arguments).await
    }

    /// Has the service run what is in place now, and waits until it is up.
    async fn service(&mut self, placed: Option<Manager>, is_new: bool) -> Result<Service> {
        let Some(manager) = self.manager else {
            return Ok(placed.map_or(Service::None, |_| Service::NotStarted));
        };
        let system = &self.work.system;
        if is_new {
            manager.reload(system).await?;
        }
        let (verb, service) = match (self.was_up, is_new) {
            (true, false) => return Ok(Service::Running),
            (true, true) => ("restart", Service::Restarted),
            (false, _) if !self.options.starts() => return Ok(Service::NotStarted),
            (false, _) => ("start", Service::Started),
        };
        tracing::info!("{verb}ing the service, and waiting until it is up");
        self.is_service_touched = true;
        manager.bring_up(verb, &self.work.system).await?;
        Ok(service)
    }

    /// Takes back what this run did: the files, and the service as it was.
    async fn roll_back(&mut self) {
        if self.work.is_empty() && !self.is_service_touched {
            return;
        }
        tracing::info!("taking back what this run did");
        let warn = |error: Error| tracing::warn!("{}: {}", error.what(), error.why());
        if let Some(manager) = self.manager
            && self.is_service_touched
            && !self.was_up
            && let Err(error) = manager.stop(&self.work.system).await
        {
            warn(error);
        }
        self.work.roll_back().await;
        if let Some(manager) = self.manager {
            if let Err(error) = manager.forget(&self.work.system).await {
                warn(error);
            }
            if self.is_service_touched
                && self.was_up
                && let Err(error) = manager.bring_up("restart", &self.work.system).await
            {
                warn(error);
            }
        }
    }
}

/// Removes what killed runs left beside the files of the plan.
fn sweep(plan: &Plan, world: &World) -> Result<()> {
    let files = plan.before.iter().filter_map(|change| match change {
        Change::PutFile(file) => Some(file.path.as_path()),
        _ => None,
    });
    for folder in files
        .filter_map(Path::parent)
        .map(|path| world.resolved_path(path))
    {
        if folder.is_dir() {
            atomic::sweep(&folder).map_err(|error| unwritable(&folder, &error))?;
        }
    }
    Ok(())
}

/// Where the enrolment's files are, also when agent.toml cannot be read.
fn enrolment_paths(flags: &Flags, world: &World) -> (PathBuf, PathBuf) {
    match Settings::resolve(flags, world) {
        Ok(settings) => {
            let paths = Paths::of(&settings, world);
            (paths.config, paths.state_dir)
        }
        Err(error) => {
            tracing::warn!("{}: {}", error.what(), error.why());
            let config = flags.config.as_deref().unwrap_or("/etc/monsys/agent.toml");
            let state_dir = flags.state_dir.as_deref().unwrap_or(receipt::FOLDER);
            (world.path(config), world.resolved_path(state_dir))
        }
    }
}

/// The error for a path of the installation.
fn unwritable(path: &Path, error: &io::Error) -> Error {
    let told = crate::store::unwritable(ErrorId::NotInstallable, path, error);
    if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
        return told.mend("remount it read-write, and run the same command again");
    }
    told
}
