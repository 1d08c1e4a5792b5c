//! The host of this dialect: its settings and its files.

use std::cell::{OnceCell, RefCell};
use std::time::Duration;

use agent_core::enrolment::{self, Dialect, ReportField};
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::flags::Flags;
use agent_core::hub::retry::Limit;
use agent_core::settings::Settings;
use agent_core::store::lock::Lock;
use agent_core::token::Kind;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::credential_store::CredentialStore;
use crate::host_state::{EnrolmentState, HostState};
use crate::hub_clock::HubClock;
use crate::paths::Paths;
use crate::plan::{self, PlannedRequest};

/// Longest time that the service waits for a run that holds the lock.
pub(crate) const LOCK_WAIT: Duration = Duration::from_millis(300);

/// This host as an agent of a monsys hub.
pub(crate) struct Monsys<'a> {
    pub(crate) flags: &'a Flags,
    pub(crate) environment: &'a Environment,
    pub(crate) settings: Settings,
    pub(crate) paths: Paths,
    /// The host's state, which is read once, at the first use.
    state: OnceCell<HostState>,
    /// The hub's clock, by which a readmission is stamped. A 401 before it has shown that clock.
    pub(crate) hub_clock: Box<RefCell<HubClock>>,
}

impl<'a> Monsys<'a> {
    /// Reads the settings and agent.toml.
    ///
    /// # Errors
    /// As [`Settings::resolve`].
    pub(crate) fn read(flags: &'a Flags, environment: &'a Environment) -> Result<Self> {
        let settings = Settings::resolve(flags, environment)?;
        Ok(Self {
            paths: Paths::of(&settings, environment),
            flags,
            environment,
            settings,
            state: OnceCell::new(),
            hub_clock: Box::new(RefCell::new(HubClock::rejecting_with(401))),
        })
    }

    /// Reads the settings, without agent.toml where this user may not read that.
    ///
    /// # Errors
    /// As [`Settings::resolve_without`].
    pub(crate) fn read_for_facts(flags: &'a Flags, environment: &'a Environment) -> Result<Self> {
        let settings = Settings::resolve_without(flags, environment)?;
        Ok(Self {
            paths: Paths::of(&settings, environment),
            flags,
            environment,
            settings,
            state: OnceCell::new(),
            hub_clock: Box::new(RefCell::new(HubClock::rejecting_with(401))),
        })
    }

    /// Returns the host's state, which is read at the first call.
    ///
    /// # Errors
    /// A broken agent.toml, key or state.
    pub(crate) fn state(&self) -> Result<&HostState> {
        if let Some(state) = self.state.get() {
            return Ok(state);
        }
        let state = HostState::inspect(&self.settings, &self.paths, self.environment)?;
        Ok(self.state.get_or_init(|| state))
    }

    /// Returns whether the host is new, enrolled, or a copy of another host.
    ///
    /// # Errors
    /// As [`Monsys::state`].
    pub(crate) fn enrolment_state(&self) -> Result<&EnrolmentState> {
        Ok(&self.state()?.enrolment_state)
    }

    /// Returns whether the host is enrolled and has all of its files and the fingerprint of
    /// this machine, and no remains of a killed run.
    pub(crate) fn is_complete(&self) -> Result<bool> {
        Ok(match self.enrolment_state()? {
            EnrolmentState::Enrolled(enrolled) => {
                enrolled.is_complete(&self.paths)
                    && self.credential_store()?.with_machine_of_now().is_none()
            }
            _ => false,
        })
    }

    /// Returns the writer of this host's files, with the state that was read.
    pub(crate) fn credential_store(&self) -> Result<CredentialStore<'_>> {
        Ok(CredentialStore::new(
            &self.paths,
            self.environment,
            &self.state()?.snapshot,
        ))
    }

    /// Reads the settings and the state again, after a change of the files.
    pub(crate) fn read_again(&self) -> Result<Self> {
        Self::read(self.flags, self.environment)
    }

    /// Returns the request that a run sends. See [`plan::plan`].
    pub(crate) fn planned_request(
        &self,
        token: Option<Kind>,
        force: bool,
    ) -> Result<PlannedRequest> {
        plan::plan(
            self.enrolment_state()?,
            &self.settings,
            token,
            force,
            self.environment,
        )
    }
}

/// Enrols this host at a monsys hub. See [`enrolment::enrol_by`].
pub(crate) async fn enrol(
    flags: &Flags,
    environment: &Environment,
) -> Result<enrolment::Enrolment> {
    let open = || -> Result<Box<dyn Dialect + '_>> {
        enrolment::checked(Box::new(Monsys::read(flags, environment)?), environment)
    };
    enrolment::enrol_by(&open, false, None, environment).await
}

/// Returns the fields of an enrolled host for the report of a run.
pub(crate) fn report_fields(
    agent_id: Uuid,
    tags: Value,
    role: Value,
    paths: &Paths,
) -> Vec<ReportField> {
    [
        ("agent", "agent_id", json!(agent_id)),
        ("tags", "tags", tags),
        ("role", "role", role),
        ("config", "config", json!(paths.config)),
    ]
    .map(|(label, key, value)| ReportField { label, key, value })
    .into()
}

/// Takes the host's lock, for the commands that only a monsys hub has. See [`enrolment::locked`].
pub(crate) async fn locked(before: Monsys<'_>, limit: Limit) -> Result<(Monsys<'_>, Option<Lock>)> {
    locked_under(None, before, limit).await
}

/// Takes the host's lock, unless `held` is that lock. See [`enrolment::locked`].
pub(crate) async fn locked_under<'a>(
    held: Option<&Lock>,
    before: Monsys<'a>,
    limit: Limit,
) -> Result<(Monsys<'a>, Option<Lock>)> {
    let (flags, environment) = (before.flags, before.environment);
    let read = || Monsys::read(flags, environment);
    enrolment::locked(before, read, |host| host, held, limit, environment).await
}
