//! The implementation of the dialect interface, which the enrolment workflow calls.

use agent_core::check::Check;
use agent_core::enrolment::{
    self, Cleanup, Confirmation, Descriptor, Dialect, Done, Enrolment, Exchange, FlagScope, Folder,
    FutureResult, OwnFlag, Plan, Prepare, Preview, StatusReport,
};
use agent_core::error::{ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::hub::retry::Limit;
use agent_core::settings::Settings;
use agent_core::store::access::Access;
use agent_core::store::atomic;
use agent_core::store::proof::{self, Target};
use agent_core::token::{Kind, Token};
use agent_core::token_source::TokenSource;
use serde_json::{Value, json};

use crate::exchange::EnrolRequest;
use crate::files::{EnrolmentState, LOCK, PENDING_REQUEST};
use crate::lyftdata::{Lyftdata, no_secret, no_server};
use crate::{checks, preview, settings, status};

/// The entry of `LyftData` in the program's list of dialects.
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
            help: "LyftData: folder of the worker's id and API key [default: /var/lib/lyftdata-worker]",
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
            EnrolmentState::Enrolled(worker) if !force => {
                self.refuse_other_worker(&worker)?;
                return Ok(if self.has_remains() {
                    Plan::Repair
                } else {
                    Plan::Nothing
                });
            }
            EnrolmentState::Enrolled(_) | EnrolmentState::New => {}
        }
        if !self.has_server {
            return Err(no_server());
        }
        self.name()?;
        if secret.is_none() {
            return Err(no_secret());
        }
        Ok(Plan::Exchange(Box::new(PlannedExchange(self))))
    }

    fn folders(&self) -> Vec<Folder> {
        vec![Folder {
            name: "jobs directory",
            path: self.jobs_dir.clone(),
            grant: Access::private().shared_folder(),
            is_foreign: true,
            error_id: ErrorId::JobsDirUnwritable,
        }]
    }

    fn lock_name(&self) -> &'static str {
        LOCK
    }

    fn recover(&mut self, _: Limit) -> FutureResult<'_, ()> {
        Box::pin(async {
            atomic::sweep(&self.jobs_dir).map_err(|error| self.write_error(&error))?;
            match self.pending_request()? {
                Some(pending) if pending.confirmed.is_some() => {
                    tracing::info!("completing what an interrupted run began");
                    self.finish(pending)
                }
                _ => Ok(()),
            }
        })
    }

    fn targets(&self) -> Result<Vec<Target>> {
        self.credential_targets()
    }

    fn prove_writable(&self) -> Result<()> {
        let mounts = self.environment.kernel_path(proof::MOUNTS);
        proof::prove(&self.targets()?, None, &mounts)
    }

    fn repair(&self) -> Result<bool> {
        // `recover` has written the files of a confirmed worker, so the record is of no more use.
        let has_record = self.path(PENDING_REQUEST).exists();
        self.remove_pending_request()?;
        Ok(has_record)
    }

    fn enrolled(&self) -> Result<Enrolment> {
        let EnrolmentState::Enrolled(worker) = self.enrolment_state()? else {
            return Err(no_secret());
        };
        let record = self.record_of(&worker)?;
        let (known_url, known_name) = record
            .map(|record| (record.hub_url, Some(record.name)))
            .unwrap_or_default();
        let name = known_name.or(self.name.clone());
        Ok(Enrolment {
            done: Done::AlreadyEnrolled,
            hub_url: self.hub_url().or(known_url).unwrap_or_default(),
            hostname: None,
            changed: false,
            confirmation: Confirmation::NotAvailable,
            changes: Vec::new(),
            fields: self.report_fields(&worker, name.as_deref()),
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
        preview::preview(self, secret, force, facts)
    }

    fn status(&self) -> Result<StatusReport> {
        status::report(self)
    }

    fn has_hub(&self) -> bool {
        self.has_server
    }

    fn checks(&self) -> Vec<Check> {
        checks::checks(self)
    }

    fn without_secret(&self) -> Check {
        checks::without_secret(self)
    }

    fn has_service(&self) -> bool {
        false
    }

    fn access(&self) -> Access {
        Access::private()
    }

    /// Enrols the worker. The worker itself is a program of `LyftData`.
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

/// An exchange that is decided on, and for which nothing is written yet.
struct PlannedExchange<'a>(&'a Lyftdata<'a>);

impl<'a> Prepare<'a> for PlannedExchange<'a> {
    fn prepare(
        self: Box<Self>,
        secret: Option<&'a Token>,
        _: Limit,
    ) -> FutureResult<'a, Box<dyn Exchange + 'a>> {
        Box::pin(async move {
            let request = EnrolRequest::prepare(self.0, secret.ok_or_else(no_secret)?.secret())?;
            Ok(Box::new(request) as Box<dyn Exchange + 'a>)
        })
    }
}
