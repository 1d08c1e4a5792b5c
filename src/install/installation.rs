//! One installation, step by step.
//!
//! Until a hub has accepted the host, a failure rolls back everything that the run did. Afterwards, or on
//! a host that was enrolled before, the run removes nothing that the agent needs. It does the remaining
//! steps, ends with its first failure, and the next run continues. There is one exception: if a service
//! that was up before does not start any more, its former files are restored.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::apply::AppliedChanges;
use super::change::Change;
use super::locks::Locks;
use super::plan::InstallPlan;
use super::service::ServiceManager;
use super::{EnrolOutcome, InstallOptions, Installed, ServiceOutcome, inspect, user};
use crate::dialects;
use agent_core::enrolment::Dialect;
use agent_core::environment::Environment;
use agent_core::error::{Error, Result};
use agent_core::flags::Flags;
use dialect_monsys as monsys;

/// The time that a rollback waits for the lock of another run that changes files.
const ROLLBACK_LOCK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// The acceptance of the host by a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acceptance {
    /// This run knows of no acceptance.
    None,
    /// A hub accepted the host in this run.
    InThisRun,
    /// A hub accepted the host before this run.
    BeforeThisRun,
}

/// One installation.
pub(super) struct Installation<'a> {
    pub(super) options: &'a InstallOptions,
    pub(super) host: Box<dyn Dialect + 'a>,
    pub(super) environment: &'a Environment,
    pub(super) locks: Locks,
    /// True if the service was up before this run.
    pub(super) was_up: bool,
    /// True if this run has stopped, started or restarted the service, or tried to.
    pub(super) is_service_touched: bool,
    /// The service manager, if it is running.
    pub(super) manager: Option<ServiceManager>,
    pub(super) acceptance: Acceptance,
    pub(super) applied: AppliedChanges<'a>,
    /// The changes that this run made.
    pub(super) made: Vec<Change>,
    /// The first failure after a hub had accepted the host.
    pub(super) failure: Option<Error>,
}

impl Installation<'_> {
    /// Runs all steps of the plan.
    ///
    /// # Errors
    /// See [`super::install`].
    pub(super) async fn run(mut self, plan: InstallPlan) -> Result<Installed> {
        let binary = plan.binary.clone();
        let result = self.steps(plan).await;
        match (result, self.failure.take()) {
            (Ok(installed), None) => {
                self.applied.finish();
                Ok(installed)
            }
            (Ok(installed), Some(failure)) => {
                self.applied.finish();
                Err(self.with_remaining_state(
                    failure,
                    installed.service,
                    &binary.to_string_lossy(),
                ))
            }
            (Err(error), failure) => {
                self.roll_back().await;
                if self.is_accepted() {
                    return Err(restored(failure.unwrap_or(error)));
                }
                self.locks.release_all();
                Err(error)
            }
        }
    }

    async fn steps(&mut self, plan: InstallPlan) -> Result<Installed> {
        let is_stopped = self.was_up;
        if let Some(manager) = self.manager {
            let is_up = manager.is_up(&self.applied.system).await;
            self.was_up |= self.check(is_up)?.unwrap_or(false);
        }
        let before = self.apply(plan.before).await?;
        let labelled = self.label(before).await;
        self.check(labelled)?;
        let enrolled = self.enrol(&plan.flags).await;
        let enrolled = self.check(enrolled)?.flatten();
        // A folder that this run made is shared only after the group exists and the install record has it.
        if plan.manager.is_some() && user::find(self.environment).is_some() {
            let shares = inspect::shares(&*self.host, &self.applied.record, self.environment);
            self.apply(shares).await?;
        }
        self.apply(plan.after).await?;
        let recorded = self.applied.record_completion();
        self.check(recorded)?;
        let has_new_credential = match &enrolled {
            Some(EnrolOutcome::Enrolled(enrolment)) => enrolment.changed,
            Some(EnrolOutcome::Deferred(deferred)) => deferred.changed,
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
            changed: !self.applied.is_empty()
                || has_new_credential
                || [ServiceOutcome::Started, ServiceOutcome::Restarted].contains(&service),
            changes: std::mem::take(&mut self.made),
            enrolled,
            service,
            not_done: plan.not_done,
            binary: plan.binary,
        })
    }

    /// Makes the changes. Returns the number of changes that were made before them.
    async fn apply(&mut self, changes: Vec<Change>) -> Result<usize> {
        let before = self.made.len();
        for change in changes {
            let applied = self.applied.apply(&change, &self.locks).await;
            if self.check(applied)?.is_some() {
                self.made.push(change);
            }
        }
        Ok(before)
    }

    /// Returns the failure, unless a hub has accepted the host. Then stores it, and the run continues.
    fn check<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        let error = match result {
            Ok(value) => return Ok(Some(value)),
            Err(error) if !self.is_accepted() => return Err(error),
            Err(error) => error,
        };
        if self.failure.is_none() {
            tracing::info!(
                "a step failed; the host is enrolled, so the other steps are still done"
            );
            self.failure = Some(error);
        } else {
            tracing::warn!("{}: {}", error.what(), error.cause());
        }
        Ok(None)
    }

    async fn enrol(&mut self, flags: &Flags) -> Result<Option<EnrolOutcome>> {
        if self.options.no_enrol {
            return Ok(None);
        }
        let held = self.locks.files();
        if self.options.defer {
            let deferred = monsys::defer_under(held, flags, self.environment).await?;
            return Ok(Some(EnrolOutcome::Deferred(deferred)));
        }
        match dialects::enrol(held, flags, self.options.force, self.environment).await {
            Ok(enrolment) => {
                self.note_acceptance();
                Ok(Some(EnrolOutcome::Enrolled(enrolment)))
            }
            Err(error) => {
                // Even if the credential could not be written: the next run sends the same key.
                if error.is_after_acceptance() || self.is_enrolled() {
                    self.note_acceptance();
                }
                Err(error)
            }
        }
    }

    fn is_accepted(&self) -> bool {
        self.acceptance != Acceptance::None
    }

    fn note_acceptance(&mut self) {
        if self.acceptance == Acceptance::None {
            self.acceptance = Acceptance::InThisRun;
        }
    }

    /// Returns true if the host has a credential now.
    fn is_enrolled(&self) -> bool {
        dialects::open(&self.options.flags, self.environment)
            .and_then(|host| host.is_enrolled())
            .unwrap_or(false)
    }

    /// Sets the `SELinux` labels of the changes from index `from`, on a host with restorecon(8).
    async fn label(&self, from: usize) -> Result<()> {
        let paths: Vec<&str> = self.made[from..]
            .iter()
            .filter(|change| !matches!(change, Change::MakeUser { .. }))
            .filter_map(|change| change.path().to_str())
            .collect();
        if paths.is_empty() || !self.applied.system.has("restorecon") {
            return Ok(());
        }
        let arguments = [&["-F"][..], &paths].concat();
        self.applied.system.run("restorecon", &arguments).await
    }

    /// Starts or restarts the service with the current files, and waits until it is up.
    ///
    /// # Errors
    /// [`ErrorId::ServiceFailed`](agent_core::error::ErrorId::ServiceFailed), if the run has to be rolled
    /// back.
    async fn service(
        &mut self,
        placed: Option<ServiceManager>,
        is_new: bool,
    ) -> Result<ServiceOutcome> {
        let Some(manager) = self.manager else {
            return Ok(placed.map_or(ServiceOutcome::None, |_| ServiceOutcome::NotStarted));
        };
        if is_new {
            let reloaded = manager.reload(&self.applied.system).await;
            self.check(reloaded)?;
        }
        let (verb, service) = match (self.was_up, is_new) {
            (true, false) => return Ok(ServiceOutcome::Running),
            (true, true) => ("restart", ServiceOutcome::Restarted),
            (false, _) if !self.options.starts() => return Ok(ServiceOutcome::NotStarted),
            // Without a credential, the service would exit at once.
            (false, _) if self.failure.is_some() && !self.is_enrolled() => {
                return Ok(ServiceOutcome::NotStarted);
            }
            (false, _) => ("start", ServiceOutcome::Started),
        };
        tracing::info!("{verb}ing the service, and waiting until it is up");
        self.is_service_touched = true;
        // The privileged step of the service takes the lock.
        self.locks.release_files();
        let up = manager.bring_up(verb, &self.applied.system).await;
        match up {
            Err(error) if self.was_up && self.acceptance == Acceptance::BeforeThisRun => Err(error),
            Err(error) => {
                // The privileged step of the service may have enrolled the host.
                if self.is_enrolled() {
                    self.note_acceptance();
                }
                self.check::<()>(Err(error))?;
                Ok(ServiceOutcome::NotStarted)
            }
            Ok(()) => Ok(service),
        }
    }

    /// Rolls back what this run did, and returns the service to its former state.
    async fn roll_back(&mut self) {
        if self.applied.is_empty() && !self.is_service_touched {
            return;
        }
        tracing::info!("rolling back what this run did");
        let warn = |error: Error| tracing::warn!("{}: {}", error.what(), error.cause());
        if let Some(manager) = self.manager
            && self.is_service_touched
            && !self.was_up
            && let Err(error) = manager.stop(&self.applied.system).await
        {
            warn(error);
        }
        // The files are restored even if another process holds the lock.
        if let Err(error) = self
            .locks
            .take_files(Instant::now() + ROLLBACK_LOCK_TIMEOUT)
            .await
        {
            warn(error);
        }
        self.applied.roll_back(&self.locks).await;
        if let Some(manager) = self.manager {
            if let Err(error) = manager.forget(&self.applied.system).await {
                warn(error);
            }
            if self.is_service_touched && self.was_up {
                self.locks.release_files();
                manager.start_again(&self.applied.system).await;
            }
        }
    }

    /// Returns the failure of a run on an accepted host, with the state that stays.
    fn with_remaining_state(&self, failure: Error, service: ServiceOutcome, binary: &str) -> Error {
        let is_enrolled = self.is_enrolled();
        let (kept, next) = if is_enrolled {
            (
                "this host is enrolled, and the installed files stay",
                "run the same command again, which spends no use and continues",
            )
        } else {
            (
                "the hub has accepted this host, its credential is not written yet, and the installed files stay",
                "run the same command again, which continues",
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
            "{fix}; then {next}; to undo everything: {program} uninstall --purge"
        ))
    }
}

/// Returns the failure of a run that restored the service of before.
fn restored(failure: Error) -> Error {
    let fields = json!({"enrolled": true, "service": "restored", "changes": []});
    failure.staying(
        "this host stays enrolled; the former files of the service are restored, and the service was started with them",
        fields,
    )
}
