//! One installation, change by change.
//!
//! Until a hub has accepted the host, a failure takes back all that the run did. From then on, or when
//! the host was enrolled before, nothing that the agent needs is taken away any more: the run does
//! whatever else can be done, ends with its first failure, and the next run goes on from there. Only
//! when a service that ran before does not start any more are the files put back with which it ran.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::apply::Work;
use super::change::Change;
use super::locks::Locks;
use super::plan::Plan;
use super::service::Manager;
use super::{Enrolled, Installed, Options, Service, inspect, user};
use crate::dialects;
use agent_core::enrolment::Dialect;
use agent_core::environment::Environment;
use agent_core::error::{Error, Result};
use agent_core::flags::Flags;
use dialect_monsys as monsys;

/// How long a run that has to go back waits for another one that changes files.
const MOMENT: std::time::Duration = std::time::Duration::from_secs(10);

/// Whether a hub has accepted the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Not that this run knows of.
    None,
    /// In this run.
    Now,
    /// Before this run.
    Before,
}

/// One installation.
pub(super) struct Run<'a> {
    pub(super) options: &'a Options,
    pub(super) host: Box<dyn Dialect + 'a>,
    pub(super) environment: &'a Environment,
    pub(super) locks: Locks,
    /// The service was up before.
    pub(super) was_up: bool,
    /// This run has stopped, started or restarted it, or tried to.
    pub(super) is_service_touched: bool,
    /// The manager, if it takes commands.
    pub(super) manager: Option<Manager>,
    pub(super) admission: Admission,
    pub(super) work: Work<'a>,
    /// The changes that were made.
    pub(super) made: Vec<Change>,
    /// The first failure after the hub had accepted the host.
    pub(super) failure: Option<Error>,
}

impl Run<'_> {
    /// Runs it to its end.
    ///
    /// # Errors
    /// See [`super::install`].
    pub(super) async fn end(mut self, plan: Plan) -> Result<Installed> {
        let binary = plan.binary.clone();
        let result = self.steps(plan).await;
        match (result, self.failure.take()) {
            (Ok(installed), None) => {
                self.work.finish();
                Ok(installed)
            }
            (Ok(installed), Some(failure)) => {
                self.work.finish();
                Err(self.stays(failure, installed.service, &binary.to_string_lossy()))
            }
            (Err(error), failure) => {
                self.go_back().await;
                if self.is_accepted() {
                    return Err(restored(failure.unwrap_or(error)));
                }
                self.locks.give_up();
                Err(error)
            }
        }
    }

    async fn steps(&mut self, plan: Plan) -> Result<Installed> {
        let is_stopped = self.was_up;
        if let Some(manager) = self.manager {
            let is_up = manager.is_up(&self.work.system).await;
            self.was_up |= self.check(is_up)?.unwrap_or(false);
        }
        let before = self.apply(plan.before).await?;
        let labelled = self.label(before).await;
        self.check(labelled)?;
        let enrolled = self.enrol(&plan.flags).await;
        let enrolled = self.check(enrolled)?.flatten();
        // A folder that this run made is shared once the group is there, and it is in the record.
        if plan.manager.is_some() && user::find(self.environment).is_some() {
            let shares = inspect::shares(&*self.host, &self.work.receipt, self.environment);
            self.apply(shares).await?;
        }
        self.apply(plan.after).await?;
        let recovered = self.work.recover();
        self.check(recovered)?;
        let has_new_credential = match &enrolled {
            Some(Enrolled::Now(enrolment)) => enrolment.changed,
            Some(Enrolled::Deferred(deferred)) => deferred.changed,
            None => false,
        };
        let is_new = has_new_credential
            || is_stopped
            || self
                .made
                .iter()
                .any(|change| matches!(change, Change::PutFile(_)));
        let service = self.service(plan.manager, is_new).await?;
        Ok(Installed {
            changed: !self.work.is_empty()
                || has_new_credential
                || [Service::Started, Service::Restarted].contains(&service),
            changes: std::mem::take(&mut self.made),
            enrolled,
            service,
            not_done: plan.not_done,
            binary: plan.binary,
        })
    }

    /// Makes changes; returns how many were made before.
    async fn apply(&mut self, changes: Vec<Change>) -> Result<usize> {
        let before = self.made.len();
        for change in changes {
            let applied = self.work.apply(&change, &self.locks).await;
            if self.check(applied)?.is_some() {
                self.made.push(change);
            }
        }
        Ok(before)
    }

    /// Ends the run with a failure, unless the hub has accepted the host: then the failure is kept, and
    /// the run goes on.
    fn check<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        let error = match result {
            Ok(value) => return Ok(Some(value)),
            Err(error) if !self.is_accepted() => return Err(error),
            Err(error) => error,
        };
        if self.failure.is_none() {
            tracing::info!("a step failed, and the host is enrolled: doing what else can be done");
            self.failure = Some(error);
        } else {
            tracing::warn!("{}: {}", error.what(), error.cause());
        }
        Ok(None)
    }

    async fn enrol(&mut self, flags: &Flags) -> Result<Option<Enrolled>> {
        if self.options.no_enrol {
            return Ok(None);
        }
        let held = self.locks.files();
        if self.options.defer {
            let deferred = monsys::defer_under(held, flags, self.environment).await?;
            return Ok(Some(Enrolled::Deferred(deferred)));
        }
        match dialects::enrol(held, flags, self.options.force, self.environment).await {
            Ok(enrolment) => {
                self.note_acceptance();
                Ok(Some(Enrolled::Now(enrolment)))
            }
            Err(error) => {
                // Also when the credential could not be written: the next run comes with the same key.
                if error.is_after_acceptance() || self.is_enrolled() {
                    self.note_acceptance();
                }
                Err(error)
            }
        }
    }

    fn is_accepted(&self) -> bool {
        self.admission != Admission::None
    }

    fn note_acceptance(&mut self) {
        if self.admission == Admission::None {
            self.admission = Admission::Now;
        }
    }

    /// Whether the host has a credential now.
    fn is_enrolled(&self) -> bool {
        dialects::open(&self.options.flags, self.environment)
            .and_then(|host| host.is_enrolled())
            .unwrap_or(false)
    }

    /// Gives what was put since `from` the labels of its place, where there are labels (`SELinux`).
    async fn label(&self, from: usize) -> Result<()> {
        let paths: Vec<&str> = self.made[from..]
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
    ///
    /// # Errors
    /// What the run has to go back for.
    async fn service(&mut self, placed: Option<Manager>, is_new: bool) -> Result<Service> {
        let Some(manager) = self.manager else {
            return Ok(placed.map_or(Service::None, |_| Service::NotStarted));
        };
        if is_new {
            let reloaded = manager.reload(&self.work.system).await;
            self.check(reloaded)?;
        }
        let (verb, service) = match (self.was_up, is_new) {
            (true, false) => return Ok(Service::Running),
            (true, true) => ("restart", Service::Restarted),
            (false, _) if !self.options.starts() => return Ok(Service::NotStarted),
            // It would end at once.
            (false, _) if self.failure.is_some() && !self.is_enrolled() => {
                return Ok(Service::NotStarted);
            }
            (false, _) => ("start", Service::Started),
        };
        tracing::info!("{verb}ing the service, and waiting until it is up");
        self.is_service_touched = true;
        // Its privileged step takes the lock.
        self.locks.release_files();
        let up = manager.bring_up(verb, &self.work.system).await;
        match up {
            Err(error) if self.was_up && self.admission == Admission::Before => Err(error),
            Err(error) => {
                // Its privileged step may have enrolled the host.
                if self.is_enrolled() {
                    self.note_acceptance();
                }
                self.check::<()>(Err(error))?;
                Ok(Service::NotStarted)
            }
            Ok(()) => Ok(service),
        }
    }

    /// Takes back what this run did: the files, and the service as it was.
    async fn go_back(&mut self) {
        if self.work.is_empty() && !self.is_service_touched {
            return;
        }
        tracing::info!("taking back what this run did");
        let warn = |error: Error| tracing::warn!("{}: {}", error.what(), error.cause());
        if let Some(manager) = self.manager
            && self.is_service_touched
            && !self.was_up
            && let Err(error) = manager.stop(&self.work.system).await
        {
            warn(error);
        }
        // Whoever holds it does not keep the files from coming back.
        if let Err(error) = self.locks.take_files(Instant::now() + MOMENT).await {
            warn(error);
        }
        self.work.roll_back(&self.locks).await;
        if let Some(manager) = self.manager {
            if let Err(error) = manager.forget(&self.work.system).await {
                warn(error);
            }
            if self.is_service_touched && self.was_up {
                self.locks.release_files();
                manager.start_again(&self.work.system).await;
            }
        }
    }

    /// The failure of a run on a host that is enrolled, with what stays.
    fn stays(&self, failure: Error, service: Service, binary: &str) -> Error {
        let is_enrolled = self.is_enrolled();
        let (kept, next) = if is_enrolled {
            (
                "this host is enrolled, and what was put in place stays",
                "run the same command again, which spends no use and goes on from there",
            )
        } else {
            (
                "the hub has accepted this host, its credential is not written yet, and what was put in place stays",
                "run the same command again, which goes on from there",
            )
        };
        let fix = failure.next_step().to_owned();
        let is_placed = self.environment.resolved_path(binary).exists();
        let program = if is_placed { binary } else { "monsys-agent" };
        let fields = json!({
            "enrolled": is_enrolled,
            "service": service.word(),
            "binary": binary,
            "changes": self.made.iter().map(Change::json).collect::<Vec<Value>>(),
        });
        failure.staying(kept, fields).hint(format!(
            "{fix}; then {next}; to take all back: {program} uninstall --purge"
        ))
    }
}

/// The failure of a run after which the service runs as it did before.
fn restored(failure: Error) -> Error {
    let fields = json!({"enrolled": true, "service": "restored", "changes": []});
    failure.staying(
        "this host stays enrolled; the files with which the service ran before are in their places again, and it was started with them",
        fields,
    )
}
