//! The interface of the dialect, as the workflow calls it.

use std::path::PathBuf;

use agent_core::check::Check;
use agent_core::enrolment::step_record::Verdict;
use agent_core::enrolment::{
    self, Account, Cleanup, Descriptor, Dialect, Done, Enrolment, Exchange, Folder, Later, Prepare,
    Preview,
};
use agent_core::environment::{SECRET_VARIABLE, World};
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

use crate::host_state::Standing;
use crate::monsys::{Monsys, held};
use crate::plan::{Ask, Plan};
use crate::run::Run;
use crate::settling::{self, Settled};
use crate::{checks, preview, service, status, step, takeover, wire};

/// The monsys hub, as the program lists it.
pub static DESCRIPTOR: Descriptor = Descriptor {
    is_meant,
    read_for_facts: |flags, world| Ok(Box::new(Monsys::read_for_facts(flags, world)?)),
    take_over: takeover::take_over,
    ..Descriptor::new("monsys", "The monsys hub", |flags, world| {
        Ok(Box::new(Monsys::read(flags, world)?))
    })
};

/// Whether the environment names a monsys hub or its token.
fn is_meant(world: &World) -> bool {
    let variables = ["MONSYS_HUB_URL", "MONSYS_TOKEN_FILE"];
    variables.iter().any(|name| world.env(name).is_some())
        || world.secret(SECRET_VARIABLE).is_some()
}

impl Dialect for Monsys<'_> {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn takes_secret(&self, force: bool) -> Result<bool> {
        Ok(self.standing()?.takes_token(&self.settings, force))
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
        self.paths.folders(self.world.access())
    }

    fn lock_name(&self) -> &'static str {
        lock::FILE
    }

    fn settle(&mut self, limit: Limit) -> Later<'_, ()> {
        Box::pin(async move {
            match settling::settle(self, limit).await? {
                Settled::Nothing => {}
                Settled::Ended | Settled::Dropped(_) => *self = self.read_again()?,
            }
            Ok(())
        })
    }

    fn prove_writable(&self) -> Result<()> {
        let (settings, access) = (&self.settings, self.world.access());
        if self.state()?.snapshot.key.is_some() {
            return self.paths.prove_writable(settings, access);
        }
        self.paths.prove_room_beside_key(settings, access)
    }

    fn repair(&self) -> Result<bool> {
        match self.standing()? {
            Standing::Enrolled(enrolled) => self.keeper()?.repair(enrolled.agent_id),
            _ => Ok(false),
        }
    }

    fn is_enrolled(&self) -> Result<bool> {
        Ok(matches!(self.standing()?, Standing::Enrolled(_)))
    }

    fn enrolled(&self) -> Result<Enrolment> {
        let Standing::Enrolled(enrolled) = self.standing()? else {
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
            holds: held(
                enrolled.agent_id,
                json!(enrolled.tags),
                json!(enrolled.role),
                &self.paths,
            ),
            cleanup: Cleanup::default(),
        })
    }

    fn facts(&self, facts: &HostFacts) -> Vec<(&'static str, Value)> {
        let machine = Fingerprint::of(self.world).unwrap_or_default();
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

    fn status(&self) -> Result<Account> {
        status::account(self)
    }

    fn checks(&self) -> Vec<Check> {
        vec![
            checks::settings(&self.settings, self.world),
            checks::identity(self.standing()),
        ]
    }

    fn without_secret(&self) -> Check {
        checks::without_token(&self.standing())
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
        self.world.access()
    }

    fn step(&self, is_service: bool) -> Later<'_, Option<Error>> {
        Box::pin(step::step(self.flags, self.world, is_service))
    }

    fn verdict(&self) -> Option<Verdict> {
        step::verdict(&self.paths)
    }

    fn save_verdict<'b>(&'b self, verdict: &'b Verdict) -> Later<'b, bool> {
        Box::pin(step::save_verdict(self.flags, self.world, verdict))
    }

    fn serve(&self) -> Later<'_, ()> {
        Box::pin(service::run(self.flags, self.world))
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
    ) -> Later<'a, Box<dyn Exchange + 'a>> {
        Box::pin(async move {
            let run = Run::new(self.host, limit)?;
            let asking = run.prepare(self.ask, secret).await?;
            Ok(Box::new(asking) as Box<dyn Exchange + 'a>)
        })
    }
}
