//! The monsys hub: a Bearer token and a signed body, exchanged for a per-agent token, put into
//! `agent.toml`.
//!
//! What makes it safe to be killed anywhere: the host's key is on the disk before the first
//! request, and to the hub that key *is* the host. Whoever comes again with the same key gets the
//! same agent and spends no further use.

mod checks;
mod defer;
mod introduction;
mod leaving;
mod paths;
mod persist;
mod plan;
mod preview;
mod rotation;
mod run;
mod settling;
mod standing;
mod status;
mod step;
mod takeover;
pub mod wire;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) use defer::defer_under;
pub use defer::{Deferred, defer};
pub use introduction::Introducer;
pub use leaving::{Leaving, Parting, unenrol};
pub use paths::{HostFiles, Paths, files};
pub use plan::lost_key;
pub use rotation::{Rotation, rotate_key, rotate_token};
pub use settling::settle_now;
pub use standing::{Enrolled, Standing};
pub use takeover::{is_foreign, take_over};

use super::{Account, Dialect, Exchange, Folder, Later, Preview};
use crate::doctor::Check;
use crate::enrolment::{self, Cleanup, Done, Enrolment, Held};
use crate::error::{Error, ErrorId, Result};
use crate::facts::HostFacts;
use crate::hub::retry::Limit;
use crate::service;
use crate::settings::{Flags, Settings};
use crate::store::access::Access;
use crate::store::lock::{self, Lock};
use crate::store::verdict::Verdict;
use crate::token::{Kind, Token};
use crate::token_source::TokenSource;
use crate::world::World;
use persist::Keeper;
use plan::Plan;
use run::Run;
use settling::Settled;

/// How long the service waits for a run that has the lock.
const MOMENT: Duration = Duration::from_millis(300);

/// This host, as it stands to a monsys hub.
pub struct Monsys<'a> {
    flags: &'a Flags,
    world: &'a World,
    settings: Settings,
    paths: Paths,
}

impl<'a> Monsys<'a> {
    /// Reads the settings and agent.toml.
    ///
    /// # Errors
    /// As [`Settings::resolve`].
    pub fn read(flags: &'a Flags, world: &'a World) -> Result<Self> {
        let settings = Settings::resolve(flags, world)?;
        Ok(Self {
            paths: Paths::of(&settings, world),
            flags,
            world,
            settings,
        })
    }

    /// As [`Monsys::read`], without agent.toml where that may not be read.
    ///
    /// # Errors
    /// As [`Settings::resolve_without`].
    pub fn read_for_facts(flags: &'a Flags, world: &'a World) -> Result<Self> {
        let settings = Settings::resolve_without(flags, world)?;
        Ok(Self {
            paths: Paths::of(&settings, world),
            flags,
            world,
            settings,
        })
    }

    fn standing(&self) -> Result<Standing> {
        Standing::of(&self.settings, &self.paths, self.world)
    }

    fn plan(&self, token: Option<Kind>, force: bool) -> Result<Plan> {
        plan::plan(self.standing()?, &self.settings, token, force, self.world)
    }
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

    fn plan(&self, secret: Option<Kind>, force: bool) -> Result<super::Plan> {
        Ok(match Monsys::plan(self, secret, force)? {
            Plan::Already(enrolled) if self.paths.are_complete(&enrolled) => super::Plan::Nothing,
            Plan::Already(_) => super::Plan::Repair,
            Plan::Ask(_) => super::Plan::Ask,
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
            let Plan::Ask(ask) = Monsys::plan(self, secret.map(Token::kind), force)? else {
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

/// What an enrolled host has.
fn held(agent_id: Uuid, tags: Value, role: Value, paths: &Paths) -> Vec<Held> {
    [
        ("agent", "agent_id", json!(agent_id)),
        ("tags", "tags", tags),
        ("role", "role", role),
        ("config", "config", json!(paths.config)),
    ]
    .map(|(label, key, value)| Held { label, key, value })
    .into()
}

/// Takes the lock, for what only a monsys hub has. See [`enrolment::locked`].
async fn locked(
    flags: &Flags,
    world: &World,
    limit: Limit,
) -> Result<(Settings, Paths, Option<Lock>)> {
    locked_under(None, flags, world, limit).await
}

/// As [`locked`], for a caller that may hold the lock already.
async fn locked_under(
    held: Option<&Lock>,
    flags: &Flags,
    world: &World,
    limit: Limit,
) -> Result<(Settings, Paths, Option<Lock>)> {
    let read = || Monsys::read(flags, world);
    let (host, lock) = enrolment::locked(read, |host| host, held, limit, world).await?;
    Ok((host.settings, host.paths, lock))
}
