//! The host of this dialect: its settings, and its files.

use std::cell::OnceCell;
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
use crate::paths::Paths;
use crate::plan::{self, Plan};

/// How long the service waits for a run that has the lock.
pub(crate) const MOMENT: Duration = Duration::from_millis(300);

/// This host, as it stands to a monsys hub.
pub(crate) struct Monsys<'a> {
    pub(crate) flags: &'a Flags,
    pub(crate) environment: &'a Environment,
    pub(crate) settings: Settings,
    pub(crate) paths: Paths,
    /// The host's state, read once, when it is first asked for.
    state: OnceCell<HostState>,
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
        })
    }

    /// As [`Monsys::read`], without agent.toml where that may not be read.
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

    pub(crate) fn enrolment_state(&self) -> Result<&EnrolmentState> {
        Ok(&self.state()?.enrolment_state)
    }

    /// Whether an enrolled host lacks none of its files, and has none left over.
    pub(crate) fn is_complete(&self) -> Result<bool> {
        Ok(match self.enrolment_state()? {
            EnrolmentState::Enrolled(enrolled) => self.paths.are_complete(enrolled),
            _ => false,
        })
    }

    /// Returns the writer of this host's files, which goes on from the host's state.
    pub(crate) fn keeper(&self) -> Result<CredentialStore<'_>> {
        Ok(CredentialStore::new(
            &self.paths,
            self.environment,
            &self.state()?.snapshot,
        ))
    }

    /// Reads settings and state again, after they were changed.
    pub(crate) fn read_again(&self) -> Result<Self> {
        Self::read(self.flags, self.environment)
    }

    pub(crate) fn plan_of_hub(&self, token: Option<Kind>, force: bool) -> Result<Plan> {
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

/// What an enrolled host has.
pub(crate) fn held(agent_id: Uuid, tags: Value, role: Value, paths: &Paths) -> Vec<ReportField> {
    [
        ("agent", "agent_id", json!(agent_id)),
        ("tags", "tags", tags),
        ("role", "role", role),
        ("config", "config", json!(paths.config)),
    ]
    .map(|(label, key, value)| ReportField { label, key, value })
    .into()
}

/// Takes the lock, for what only a monsys hub has. See [`enrolment::locked`].
pub(crate) async fn locked(before: Monsys<'_>, limit: Limit) -> Result<(Monsys<'_>, Option<Lock>)> {
    locked_under(None, before, limit).await
}

/// As [`locked`], for a caller that may hold the lock already.
pub(crate) async fn locked_under<'a>(
    held: Option<&Lock>,
    before: Monsys<'a>,
    limit: Limit,
) -> Result<(Monsys<'a>, Option<Lock>)> {
    let (flags, environment) = (before.flags, before.environment);
    let read = || Monsys::read(flags, environment);
    enrolment::locked(before, read, |host| host, held, limit, environment).await
}
