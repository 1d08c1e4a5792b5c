//! The implementation of the dialect interface, which the enrolment workflow calls.

use std::path::PathBuf;

use agent_core::check::Check;
use agent_core::enrolment::step_record::StepRecord;
use agent_core::enrolment::{
    Cleanup, Confirmation, Descriptor, Dialect, Done, Enrolment, Exchange, Folder, FutureResult,
    Plan, Prepare, Preview, StatusReport, WayBack,
};
use agent_core::environment::{Environment, SECRET_VARIABLE};
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::facts::fingerprint::Fingerprint;
use agent_core::hub::retry::Limit;
use agent_core::settings::Settings;
use agent_core::store::access::Access;
use agent_core::store::lock;
use agent_core::store::proof::Target;
use agent_core::token::{Kind, Token};
use agent_core::token_source::TokenSource;
use serde_json::{Value, json};

use crate::exchange::EnrolRequest;
use crate::host_state::EnrolmentState;
use crate::monsys::{Monsys, report_fields};
use crate::paths::KeyWrite;
use crate::plan::{PlannedRequest, Purpose};
use crate::receipt::Receipt;
use crate::recovery::{self, Recovery};
use crate::state::State;
use crate::{checks, preview, service, status, step, takeover, wire};

/// The entry of the monsys hub in the program's list of dialects.
pub static DESCRIPTOR: Descriptor = Descriptor {
    is_meant,
    ignored: &[],
    read_for_facts: |flags, environment| Ok(Box::new(Monsys::read_for_facts(flags, environment)?)),
    take_over: takeover::take_over,
    ..Descriptor::new("monsys", "The monsys hub", |flags, environment| {
        Ok(Box::new(Monsys::read(flags, environment)?))
    })
};

/// Returns whether the environment names a monsys hub or its token.
fn is_meant(environment: &Environment) -> bool {
    let variables = ["MONSYS_HUB_URL", "MONSYS_TOKEN_FILE"];
    variables.iter().any(|name| environment.env(name).is_some())
        || environment.secret(SECRET_VARIABLE).is_some()
}

impl Dialect for Monsys<'_> {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn takes_secret(&self, force: bool) -> Result<bool> {
        Ok(self.enrolment_state()?.takes_token(&self.settings, force))
    }

    fn read_secret(&self, text: &str, source: &TokenSource) -> Result<Token> {
        Token::parse(text, source)
    }

    fn plan(&self, secret: Option<Kind>, force: bool) -> Result<Plan<'_>> {
        let request = self.planned_request(secret, force)?;
        let is_confirmation = request.purpose == Purpose::Confirmation;
        let planned = PlannedExchange::of(self, request);
        Ok(if is_confirmation {
            Plan::Confirm(planned)
        } else {
            Plan::Exchange(planned)
        })
    }

    fn plan_return(&self, way: WayBack) -> Result<Option<Box<dyn Prepare<'_> + '_>>> {
        let EnrolmentState::Enrolled(enrolled) = self.enrolment_state()? else {
            return Ok(None);
        };
        let request = match way {
            WayBack::Receipt => {
                let key = self.state()?.snapshot.key.as_ref();
                Receipt::load(&self.paths.state_dir)
                    .filter(|receipt| key.is_some_and(|key| receipt.is_for(&key.public_key())))
                    .map(|receipt| PlannedRequest::by_receipt(enrolled, &self.settings, receipt))
            }
            WayBack::Secret(kind) => {
                Some(PlannedRequest::returning(enrolled, &self.settings, kind))
            }
        };
        Ok(request.map(|request| PlannedExchange::of(self, request) as Box<dyn Prepare<'_> + '_>))
    }

    fn folders(&self) -> Vec<Folder> {
        self.paths.folders(self.environment.access())
    }

    fn lock_name(&self) -> &'static str {
        lock::FILE
    }

    fn recover(&mut self, limit: Limit) -> FutureResult<'_, ()> {
        Box::pin(async move {
            match recovery::recover(self, limit).await? {
                Recovery::Nothing => {}
                Recovery::Completed | Recovery::Dropped(_) => *self = self.read_again()?,
            }
            Ok(())
        })
    }

    fn targets(&self) -> Result<Vec<Target>> {
        let key = self.key_write()?;
        Ok(self.paths.targets(&self.settings, self.environment, key))
    }

    fn prove_writable(&self) -> Result<()> {
        let key = self.key_write()?;
        self.paths
            .prove_writable(&self.settings, self.environment, key)
    }

    fn repair(&self) -> Result<bool> {
        match self.enrolment_state()? {
            EnrolmentState::Enrolled(enrolled) if !self.is_complete()? => {
                self.credential_store()?.repair(enrolled.agent_id)
            }
            _ => Ok(false),
        }
    }

    fn is_enrolled(&self) -> Result<bool> {
        Ok(matches!(
            self.enrolment_state()?,
            EnrolmentState::Enrolled(_)
        ))
    }

    fn enrolled(&self) -> Result<Enrolment> {
        let EnrolmentState::Enrolled(enrolled) = self.enrolment_state()? else {
            return Err(Error::new(
                ErrorId::NotEnrolled,
                "the credential in agent.toml was removed during this run",
            ));
        };
        Ok(Enrolment {
            done: Done::AlreadyEnrolled,
            hub_url: enrolled.hub_url.clone(),
            hostname: None,
            changed: false,
            confirmation: Confirmation::NotAvailable,
            changes: Vec::new(),
            fields: report_fields(
                enrolled.agent_id,
                json!(enrolled.tags),
                json!(enrolled.role),
                &self.paths,
            ),
            cleanup: Cleanup::default(),
        })
    }

    fn facts(&self, facts: &HostFacts) -> Vec<(&'static str, Value)> {
        let machine = Fingerprint::of(self.environment).unwrap_or_default();
        wire::facts(facts, machine.machine_id.as_deref())
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

    fn ask_hub(&self) -> FutureResult<'_, bool> {
        Box::pin(step::accepts_credential(self))
    }

    fn checks(&self) -> Vec<Check> {
        vec![
            checks::settings(&self.settings, self.environment),
            checks::identity(self.enrolment_state()),
        ]
    }

    fn without_secret(&self) -> Check {
        checks::without_secret(&self.enrolment_state())
    }

    fn configuration_files(&self) -> Vec<PathBuf> {
        // state.json is no reason for a step: it holds the result of the last one.
        let mut files = self.paths.service_files();
        files.retain(|path| !path.ends_with(crate::state::FILE));
        files
    }

    fn service_files(&self) -> Vec<PathBuf> {
        self.paths.service_files()
    }

    fn access(&self) -> Access {
        self.environment.access()
    }

    fn step(&self, is_service: bool) -> FutureResult<'_, Option<Error>> {
        Box::pin(step::step(self.flags, self.environment, is_service))
    }

    fn step_record(&self) -> Option<StepRecord> {
        step::last_record(&self.paths)
    }

    fn save_step_record<'b>(&'b self, record: &'b StepRecord) -> FutureResult<'b, bool> {
        Box::pin(step::save_record(self.flags, self.environment, record))
    }

    fn serve(&self) -> FutureResult<'_, ()> {
        Box::pin(service::run(self.flags, self.environment))
    }
}

impl Monsys<'_> {
    /// Returns when an enrolment of this host writes its key.
    fn key_write(&self) -> Result<KeyWrite> {
        let snapshot = &self.state()?.snapshot;
        let has_next = |state: &State| state.next.is_some();
        Ok(match &snapshot.key {
            _ if snapshot.state.as_ref().is_some_and(has_next) => KeyWrite::AfterRequest,
            _ if matches!(self.enrolment_state()?, EnrolmentState::Clone(_)) => {
                KeyWrite::AfterRequest
            }
            Some(_) => KeyWrite::Never,
            None => KeyWrite::BeforeRequest,
        })
    }
}

/// An exchange that is decided on, and for which nothing is written yet.
struct PlannedExchange<'a> {
    host: &'a Monsys<'a>,
    request: PlannedRequest,
}

impl<'a> PlannedExchange<'a> {
    fn of(host: &'a Monsys<'a>, request: PlannedRequest) -> Box<Self> {
        Box::new(Self { host, request })
    }
}

impl<'a> Prepare<'a> for PlannedExchange<'a> {
    fn prepare(
        self: Box<Self>,
        secret: Option<&'a Token>,
        limit: Limit,
    ) -> FutureResult<'a, Box<dyn Exchange + 'a>> {
        Box::pin(async move {
            let request = EnrolRequest::prepare(self.host, self.request, secret, limit).await?;
            Ok(Box::new(request) as Box<dyn Exchange + 'a>)
        })
    }
}
