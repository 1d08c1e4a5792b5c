//! The interface of the dialect, as the workflow calls it.

use std::path::PathBuf;

use agent_core::check::Check;
use agent_core::enrolment::step_record::StepRecord;
use agent_core::enrolment::{
    self, Cleanup, Descriptor, Dialect, Done, Enrolment, Exchange, Folder, FutureResult, Prepare,
    Preview, StatusReport,
};
use agent_core::environment::{Environment, SECRET_VARIABLE};
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::facts::fingerprint::Fingerprint;
use agent_core::hub::retry::Limit;
use agent_core::settings::Settings;
use agent_core::store::access::Access;
use agent_core::store::lock;
use agent_core::token::{Kind, Token};
use agent_core::token_source::TokenSource;
use serde_json::{Value, json};

use crate::exchange::Run;
use crate::host_state::EnrolmentState;
use crate::monsys::{Monsys, held};
use crate::plan::{Ask, Plan};
use crate::recovery::{self, Recovery};
use crate::{checks, preview, service, status, step, takeover, wire};

/// The monsys hub, as the program lists it.
pub static DESCRIPTOR: Descriptor = Descriptor {
    is_meant,
    read_for_facts: |flags, environment| Ok(Box::new(Monsys::read_for_facts(flags, environment)?)),
    take_over: takeover::take_over,
    ..Descriptor::new("monsys", "The monsys hub", |flags, environment| {
        Ok(Box::new(Monsys::read(flags, environment)?))
    })
};

/// Whether the environment names a monsys hub or its token.
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

    fn plan(&self, secret: Option<Kind>, force: bool) -> Result<enrolment::Plan<'_>> {
        Ok(match self.plan_of_hub(secret, force)? {
            Plan::Already if self.is_complete()? => enrolment::Plan::Nothing,
            Plan::Already => enrolment::Plan::Repair,
            Plan::Ask(ask) => enrolment::Plan::Exchange(Box::new(Decided {
                host: self,
                ask: *ask,
            })),
        })
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
                Recovery::Ended | Recovery::Dropped(_) => *self = self.read_again()?,
            }
            Ok(())
        })
    }

    fn prove_writable(&self) -> Result<()> {
        let (settings, access) = (&self.settings, self.environment.access());
        if self.state()?.snapshot.key.is_some() {
            return self.paths.prove_writable(settings, access);
        }
        self.paths.prove_room_beside_key(settings, access)
    }

    fn repair(&self) -> Result<bool> {
        match self.enrolment_state()? {
            EnrolmentState::Enrolled(enrolled) => self.keeper()?.repair(enrolled.agent_id),
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
                "agent.toml has lost its credential in this moment",
            ));
        };
        Ok(Enrolment {
            done: Done::AlreadyEnrolled,
            hub_url: enrolled.hub_url.clone(),
            hostname: None,
            changed: false,
            fields: held(
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
        status::account(self)
    }

    fn checks(&self) -> Vec<Check> {
        vec![
            checks::settings(&self.settings, self.environment),
            checks::identity(self.enrolment_state()),
        ]
    }

    fn without_secret(&self) -> Check {
        checks::without_token(&self.enrolment_state())
    }

    fn configuration_files(&self) -> Vec<PathBuf> {
        // state.json holds the verdict of the step itself.
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
        step::verdict(&self.paths)
    }

    fn save_step_record<'b>(&'b self, record: &'b StepRecord) -> FutureResult<'b, bool> {
        Box::pin(step::save_verdict(self.flags, self.environment, record))
    }

    fn serve(&self) -> FutureResult<'_, ()> {
        Box::pin(service::run(self.flags, self.environment))
    }
}

/// An exchange that was decided on.
struct Decided<'a> {
    host: &'a Monsys<'a>,
    ask: Ask,
}

impl<'a> Prepare<'a> for Decided<'a> {
    fn prepare(
        self: Box<Self>,
        secret: Option<&'a Token>,
        limit: Limit,
    ) -> FutureResult<'a, Box<dyn Exchange + 'a>> {
        Box::pin(async move {
            let run = Run::new(self.host, limit)?;
            let asking = run.prepare(self.ask, secret).await?;
            Ok(Box::new(asking) as Box<dyn Exchange + 'a>)
        })
    }
}
