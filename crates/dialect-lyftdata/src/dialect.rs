//! The interface of the dialect, as the workflow calls it.

use agent_core::check::Check;
use agent_core::enrolment::{
    self, Cleanup, Descriptor, Dialect, Done, Enrolment, Exchange, FlagScope, Folder, FutureResult,
    OwnFlag, Plan, Prepare, Preview, StatusReport,
};
use agent_core::error::{ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::hub::retry::Limit;
use agent_core::settings::Settings;
use agent_core::store::access::Access;
use agent_core::store::atomic;
use agent_core::token::{Kind, Token};
use agent_core::token_source::TokenSource;
use serde_json::{Value, json};

use crate::exchange::EnrolRequest;
use crate::files::{EnrolmentState, JOURNAL, LOCK};
use crate::lyftdata::{Lyftdata, missing};
use crate::{report, settings};

/// `LyftData`, as the program lists it.
pub static DESCRIPTOR: Descriptor = Descriptor {
    settings: settings::SETTINGS,
    flags: &[
        OwnFlag {
            flag: "--worker-name",
            value_name: Some("NAME"),
            help: "LyftData: unique name of the worker",
            scope: FlagScope::Everywhere,
        },
        OwnFlag {
            flag: "--worker-jobs-dir",
            value_name: Some("DIR"),
            help: "LyftData: where the worker's id and API key are put [default: /var/lib/lyftdata-worker]",
            scope: FlagScope::Everywhere,
        },
    ],
    secret_variables: settings::SECRETS,
    run_argument: Some("worker"),
    is_meant: settings::is_meant,
    ..Descriptor::new(
        "lyftdata",
        "Workers of a LyftData server",
        |flags, environment| Ok(Box::new(Lyftdata::read(flags, environment)?)),
    )
};

impl Dialect for Lyftdata<'_> {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn takes_secret(&self, force: bool) -> Result<bool> {
        Ok(force || matches!(self.enrolment_state()?, EnrolmentState::New))
    }

    fn read_secret(&self, text: &str, source: &TokenSource) -> Result<Token> {
        Token::shared(text, source)
    }

    fn plan(&self, secret: Option<Kind>, force: bool) -> Result<Plan<'_>> {
        match self.enrolment_state()? {
            EnrolmentState::Unfinished => return Ok(Plan::Repair),
            EnrolmentState::Enrolled(_) if !force && self.has_leftovers() => {
                return Ok(Plan::Repair);
            }
            EnrolmentState::Enrolled(_) if !force => return Ok(Plan::Nothing),
            EnrolmentState::Enrolled(_) | EnrolmentState::New => {}
        }
        self.name()?;
        if secret.is_none() {
            return Err(missing());
        }
        Ok(Plan::Exchange(Box::new(Decided(self))))
    }

    fn folders(&self) -> Vec<Folder> {
        vec![Folder {
            name: "jobs directory",
            path: self.jobs_dir.clone(),
            grant: Access::private().shared_folder(),
            is_foreign: true,
            error_id: ErrorId::StateUnwritable,
        }]
    }

    fn lock_name(&self) -> &'static str {
        LOCK
    }

    fn recover(&mut self, _: Limit) -> FutureResult<'_, ()> {
        Box::pin(async {
            atomic::sweep(&self.jobs_dir).map_err(|error| self.fault(&error))?;
            match self.journal()?.and_then(|journal| journal.confirmed) {
                Some(worker) => {
                    tracing::info!("ending what an interrupted run began");
                    self.finish(&worker)
                }
                None => Ok(()),
            }
        })
    }

    fn prove_writable(&self) -> Result<()> {
        atomic::prove(&self.jobs_dir, 8 * 1024, self.owner()?).map_err(|error| self.fault(&error))
    }

    fn repair(&self) -> Result<bool> {
        // What was confirmed is in its files by now; a note of a request is of no more use.
        let is_left = self.path(JOURNAL).exists();
        self.forget()?;
        Ok(is_left)
    }

    fn enrolled(&self) -> Result<Enrolment> {
        let EnrolmentState::Enrolled(worker) = self.enrolment_state()? else {
            return Err(missing());
        };
        Ok(Enrolment {
            done: Done::AlreadyEnrolled,
            hub_url: self.settings.hub_url.value.to_string(),
            hostname: None,
            changed: false,
            fields: self.held(&worker, self.name.as_deref()),
            cleanup: Cleanup::default(),
        })
    }

    fn facts(&self, _: &HostFacts) -> Vec<(&'static str, Value)> {
        let mut facts = vec![("name", json!(self.name))];
        if let Some(worker) = &self.worker {
            facts.push(("worker", json!(worker)));
        }
        facts
    }

    fn preview(
        &self,
        secret: Option<Kind>,
        force: bool,
        facts: &HostFacts,
    ) -> Result<Option<Preview>> {
        report::preview(self, secret, force, facts)
    }

    fn status(&self) -> Result<StatusReport> {
        report::account(self)
    }

    fn checks(&self) -> Vec<Check> {
        report::checks(self)
    }

    fn without_secret(&self) -> Check {
        report::without_secret(self)
    }

    fn has_service(&self) -> bool {
        false
    }

    /// The worker itself is `LyftData`'s own program; what this one does in its place is to enrol.
    fn access(&self) -> Access {
        Access::private()
    }

    fn serve(&self) -> FutureResult<'_, ()> {
        Box::pin(async {
            let open = || -> Result<Box<dyn Dialect + '_>> {
                let host = Lyftdata::read(self.flags, self.environment)?;
                enrolment::checked(Box::new(host), self.environment)
            };
            let enrolment = enrolment::enrol_by(&open, false, None, self.environment).await?;
            tracing::info!(
                "{}: the worker's id and API key are in {}",
                enrolment.done.word(),
                self.jobs_dir.display()
            );
            Ok(())
        })
    }
}

/// An exchange that was decided on.
struct Decided<'a>(&'a Lyftdata<'a>);

impl<'a> Prepare<'a> for Decided<'a> {
    fn prepare(
        self: Box<Self>,
        secret: Option<&'a Token>,
        _: Limit,
    ) -> FutureResult<'a, Box<dyn Exchange + 'a>> {
        Box::pin(async move {
            let asking = EnrolRequest::prepare(self.0, secret.ok_or_else(missing)?.secret())?;
            Ok(Box::new(asking) as Box<dyn Exchange + 'a>)
        })
    }
}
