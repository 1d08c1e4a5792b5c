//! The interface of the dialect, as the workflow calls it.

use std::path::PathBuf;

use agent_core::check::Check;
use agent_core::enrolment::step_record::Verdict;
use agent_core::enrolment::{
    self, Account, Cleanup, Descriptor, Dialect, Done, Enrolment, Exchange, Folder, Later, Preview,
};
use agent_core::environment::{SECRET_VARIABLE, World};
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::hub::retry::Limit;
use agent_core::settings::Settings;
use agent_core::store::access::Access;
use agent_core::store::lock;
use agent_core::token::{Kind, Token};
use agent_core::token_source::TokenSource;
use serde_json::{Value, json};

use crate::monsys::{Monsys, held};
use crate::persist::Keeper;
use crate::plan::Plan;
use crate::run::Run;
use crate::settling::{self, Settled};
use crate::standing::Standing;
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

    fn plan(&self, secret: Option<Kind>, force: bool) -> Result<enrolment::Plan> {
        Ok(match self.plan_of_hub(secret, force)? {
            Plan::Already(enrolled) if self.paths.are_complete(&enrolled) => {
                enrolment::Plan::Nothing
            }
            Plan::Already(_) => enrolment::Plan::Repair,
            Plan::Ask(_) => enrolment::Plan::Ask,
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
            let (flags, world) = (self.flags, self.world);
            match settling::settle(&self.settings, &self.paths, world, limit).await? {
                Settled::Nothing => {}
                Settled::Ended | Settled::Dropped(_) => *self = Self::read(flags, world)?,
            }
            Ok(())
        })
    }

    fn prove_writable(&self) -> Result<()> {
        if self.paths.key().exists() {
            return self
                .paths
                .prove_writable(&self.settings, self.world.access());
        }
        self.paths
            .prove_room_beside_key(&self.settings, self.world.access())
    }

    fn exchange<'a>(
        &'a self,
        secret: Option<&'a Token>,
        force: bool,
        limit: Limit,
    ) -> Later<'a, Box<dyn Exchange + 'a>> {
        Box::pin(async move {
            let Plan::Ask(ask) = self.plan_of_hub(secret.map(Token::kind), force)? else {
                return Err(Error::new(ErrorId::Internal, "there is nothing to ask"));
            };
            let run = Run::new(&self.settings, &self.paths, self.world, limit)?;
            let asking = run.prepare(*ask, secret).await?;
            Ok(Box::new(asking) as Box<dyn Exchange + 'a>)
        })
    }

    fn repair(&self) -> Result<bool> {
        match self.standing()? {
            Standing::Enrolled(enrolled) => {
                Keeper::new(&self.paths, self.world)?.repair(enrolled.agent_id)
            }
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
            hub_url: enrolled.hub_url,
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
        wire::facts(facts)
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
        status::account(&self.settings, &self.paths, self.world)
    }

    fn checks(&self) -> Vec<Check> {
        vec![
            checks::settings(&self.settings, self.world),
            checks::identity(self.standing()),
        ]
    }

    fn without_secret(&self) -> Check {
        checks::without_token(self.standing())
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
