//! The implementation of the dialect interface, which the enrolment workflow calls.

use std::path::PathBuf;

use agent_core::check::Check;
use agent_core::enrolment::{
    Cleanup, Confirmation, Descriptor, Dialect, Done, Enrolment, Exchange, FlagScope, Folder,
    FutureResult, OwnFlag, Plan, Prepare, Preview, StatusReport,
};
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::hub::retry::Limit;
use agent_core::service;
use agent_core::settings::Settings;
use agent_core::store::access::Access;
use agent_core::store::atomic;
use agent_core::store::proof::{self, Target};
use agent_core::token::{Kind, Token};
use agent_core::token_source::TokenSource;
use serde_json::Value;

use crate::exchange::EnrolRequest;
use crate::ravenxcope::{LOCK, Ravenxcope, UnsavedCredential, warn_unsaved};
use crate::sensor::Sensor;
use crate::{checks, pending_request, preview, settings, status, step, wire};

/// More bytes than a sensor token adds to the env file.
const ROOM: usize = 16 * 1024;

/// The entry of `RavenXcope` in the program's list of dialects.
pub static DESCRIPTOR: Descriptor = Descriptor {
    settings: settings::SETTINGS,
    flags: &[OwnFlag {
        flag: "--strict",
        value_name: None,
        help: "RavenXcope: fail when a fresh credential cannot be written, instead of going on with the credential in memory",
        scope: FlagScope::Service,
    }],
    secret_variables: settings::SECRETS,
    is_meant: settings::is_meant,
    read_for_facts: |flags, environment| {
        Ok(Box::new(Ravenxcope::read_for_facts(flags, environment)?))
    },
    ..Descriptor::new(
        "ravenxcope",
        "Sensors of a RavenXcope backend",
        |flags, environment| Ok(Box::new(Ravenxcope::read(flags, environment)?)),
    )
};

impl Dialect for Ravenxcope<'_> {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn takes_secret(&self, force: bool) -> Result<bool> {
        Ok(force || self.token.is_none())
    }

    fn read_secret(&self, text: &str, source: &TokenSource) -> Result<Token> {
        Token::shared(text, source)
    }

    fn is_untouched(&self) -> bool {
        self.token.is_none() && self.pending.is_none() && self.settings.token.is_none()
    }

    fn plan(&self, secret: Option<Kind>, force: bool) -> Result<Plan<'_>> {
        if self.token.is_some() && !force {
            self.refuse_other_backend()?;
            return Ok(if self.needs_repair() {
                Plan::Repair
            } else {
                Plan::Nothing
            });
        }
        self.id()?;
        match secret {
            Some(_) => Ok(Plan::Exchange(Box::new(PlannedExchange(self)))),
            None => Err(self.no_install_token()),
        }
    }

    fn folders(&self) -> Vec<Folder> {
        vec![Folder {
            name: "config directory",
            path: self.file.folder().to_owned(),
            grant: self.environment.access().public_folder(),
            is_foreign: false,
            error_id: ErrorId::EnvFileUnwritable,
        }]
    }

    fn lock_name(&self) -> &'static str {
        LOCK
    }

    fn recover(&mut self, _: Limit) -> FutureResult<'_, ()> {
        Box::pin(async move {
            if let Err(error) = atomic::sweep(self.file.folder()) {
                tracing::debug!("{}: {error}", self.file.folder().display());
            }
            Ok(())
        })
    }

    fn targets(&self) -> Result<Vec<Target>> {
        Ok(vec![self.file.target(ROOM)])
    }

    fn prove_writable(&self) -> Result<()> {
        let mounts = self.environment.kernel_path(proof::MOUNTS);
        match self.file.prove(ROOM, &mounts) {
            Err(error) if self.unsaved.is_some() => {
                warn_unsaved(&error);
                Ok(())
            }
            proved => proved,
        }
    }

    fn repair(&self) -> Result<bool> {
        let Some(pending) = self.pending.as_ref().filter(|_| self.needs_repair()) else {
            return Ok(false);
        };
        pending
            .recovered(self.own_token(), self.environment)
            .save(self.file.folder(), self.environment.access())?;
        Ok(true)
    }

    fn enrolled(&self) -> Result<Enrolment> {
        Ok(Enrolment {
            done: Done::AlreadyEnrolled,
            hub_url: self.settings.hub_url.value.to_string(),
            hostname: None,
            changed: false,
            confirmation: Confirmation::NotAvailable,
            changes: Vec::new(),
            fields: self.report_fields(self.interval()),
            cleanup: Cleanup::default(),
        })
    }

    fn facts(&self, facts: &HostFacts) -> Vec<(&'static str, Value)> {
        wire::facts(facts, self.port)
    }

    fn preview(
        &self,
        secret: Option<Kind>,
        force: bool,
        facts: &HostFacts,
    ) -> Result<Option<Preview>> {
        preview::preview(self, secret, force, facts)
    }

    fn status(&self) -> Result<StatusReport> {
        Ok(status::report(self))
    }

    fn ask_hub(&self) -> FutureResult<'_, bool> {
        Box::pin(async {
            if self.token.is_none() {
                return Ok(false);
            }
            let host = Ravenxcope::read(self.flags, self.environment)?;
            Sensor::from_disk(host)?.ask().await?;
            Ok(true)
        })
    }

    fn checks(&self) -> Vec<Check> {
        checks::checks(self)
    }

    fn without_secret(&self) -> Check {
        checks::without_secret(self)
    }

    fn service_files(&self) -> Vec<PathBuf> {
        let pending = pending_request::path(self.file.folder());
        vec![self.file.path().to_owned(), pending]
    }

    fn access(&self) -> Access {
        self.environment.access()
    }

    fn step(&self, _: bool) -> FutureResult<'_, Option<Error>> {
        Box::pin(step::step(self.flags, self.environment))
    }

    /// Returns `false`: a credential that cannot be written stays in the memory of the process that enrolled.
    fn steps_apart(&self) -> bool {
        false
    }

    fn serve(&self) -> FutureResult<'_, ()> {
        Box::pin(async move {
            let unsaved = UnsavedCredential::default();
            service::run_heartbeats(self.environment, async || {
                Ravenxcope::admit(self.flags, self.environment, &unsaved).await
            })
            .await
        })
    }
}

/// An exchange that is decided on, and for which nothing is written yet.
struct PlannedExchange<'a>(&'a Ravenxcope<'a>);

impl<'a> Prepare<'a> for PlannedExchange<'a> {
    fn prepare(
        self: Box<Self>,
        secret: Option<&'a Token>,
        _: Limit,
    ) -> FutureResult<'a, Box<dyn Exchange + 'a>> {
        Box::pin(async move {
            let request = EnrolRequest::prepare(self.0, secret)?;
            Ok(Box::new(request) as Box<dyn Exchange + 'a>)
        })
    }
}
