//! The interface of the dialect, as the workflow calls it.

use std::path::PathBuf;

use agent_core::check::Check;
use agent_core::enrolment::{
    Account, Cleanup, Descriptor, Dialect, Done, Enrolment, Exchange, FlagScope, Folder, Later,
    OwnFlag, Plan, Preview,
};
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::hub::retry::Limit;
use agent_core::service;
use agent_core::settings::Settings;
use agent_core::store::access::Access;
use agent_core::store::atomic;
use agent_core::token::{Kind, Token};
use agent_core::token_source::TokenSource;
use serde_json::Value;

use crate::asking::Asking;
use crate::ravenxcope::{LOCK, Memory, Ravenxcope, warn_of};
use crate::{mark, settings, step, told, wire};

/// `RavenXcope`, as the program lists it.
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
    read_for_facts: |flags, world| Ok(Box::new(Ravenxcope::read_for_facts(flags, world)?)),
    ..Descriptor::new(
        "ravenxcope",
        "Sensors of a RavenXcope backend",
        |flags, world| Ok(Box::new(Ravenxcope::read(flags, world)?)),
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

    fn plan(&self, secret: Option<Kind>, force: bool) -> Result<Plan> {
        if self.token.is_some() && !force {
            return Ok(if self.is_unsettled() {
                Plan::Repair
            } else {
                Plan::Nothing
            });
        }
        self.id()?;
        match secret {
            Some(_) => Ok(Plan::Ask),
            None => Err(self.no_install_token()),
        }
    }

    fn folders(&self) -> Vec<Folder> {
        vec![Folder {
            name: "config directory",
            path: self.file.folder().to_owned(),
            grant: self.world.access().public_folder(),
            is_foreign: false,
            fault: ErrorId::EnvFileUnwritable,
        }]
    }

    fn lock_name(&self) -> &'static str {
        LOCK
    }

    fn settle(&mut self, _: Limit) -> Later<'_, ()> {
        Box::pin(async move {
            if let Err(error) = atomic::sweep(self.file.folder()) {
                tracing::debug!("{}: {error}", self.file.folder().display());
            }
            Ok(())
        })
    }

    fn prove_writable(&self) -> Result<()> {
        match self.file.prove(16 * 1024) {
            Err(error) if self.memory.is_some() => {
                warn_of(&error);
                Ok(())
            }
            proved => proved,
        }
    }

    fn exchange<'a>(
        &'a self,
        secret: Option<&'a Token>,
        _: bool,
        _: Limit,
    ) -> Later<'a, Box<dyn Exchange + 'a>> {
        Box::pin(async move {
            let asking = Asking::new(self, secret)?;
            Ok(Box::new(asking) as Box<dyn Exchange + 'a>)
        })
    }

    fn repair(&self) -> Result<bool> {
        let Some(mark) = self.mark.as_ref().filter(|_| self.is_unsettled()) else {
            return Ok(false);
        };
        mark.settled(self.world)
            .save(self.file.folder(), self.world.access())?;
        Ok(true)
    }

    fn enrolled(&self) -> Result<Enrolment> {
        Ok(Enrolment {
            done: Done::AlreadyEnrolled,
            hub_url: self.settings.hub_url.value.to_string(),
            hostname: None,
            changed: false,
            holds: self.held(self.interval()),
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
        told::preview(self, secret, force, facts)
    }

    fn status(&self) -> Result<Account> {
        Ok(told::account(self))
    }

    fn checks(&self) -> Vec<Check> {
        told::checks(self)
    }

    fn without_secret(&self) -> Check {
        told::without_secret(self)
    }

    fn service_files(&self) -> Vec<PathBuf> {
        let mark = mark::path(self.file.folder());
        vec![self.file.path().to_owned(), mark]
    }

    fn access(&self) -> Access {
        self.world.access()
    }

    fn step(&self, _: bool) -> Later<'_, Option<Error>> {
        Box::pin(step::step(self.flags, self.world))
    }

    /// A credential that the disk does not take is in the memory of the process that enrolled.
    fn steps_apart(&self) -> bool {
        false
    }

    fn serve(&self) -> Later<'_, ()> {
        Box::pin(async move {
            let memory = Memory::default();
            service::keep(self.world, async || {
                Ravenxcope::admit(self.flags, self.world, &memory).await
            })
            .await
        })
    }
}
