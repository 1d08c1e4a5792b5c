//! `LyftData`: an HMAC of a shared secret and a nonce, exchanged for a worker's id and an API key,
//! put into two files of the jobs directory.
//!
//! The secret itself never travels. The order of writes: what is asked for, *exchange*, what was
//! confirmed (both, in one file), key, id, and the file goes. So a crash after the answer is ended
//! by the next run. An answer that is lost before cannot be asked for again: to the hub the name is
//! taken then, which it says, and so no second worker is made.
//!
//! Source: `LyftData`'s "Worker Auto Enrollment". Fields of the enrolment are the contract's.

pub(crate) mod asking;
pub(crate) mod files;
mod settings;
mod told;

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Account, Dialect, Exchange, Folder, Later, Plan, Preview};
use crate::doctor::Check;
use crate::enrolment::{self, Cleanup, Done, Enrolment, Held};
use crate::error::{Error, ErrorId, Result};
use crate::facts::HostFacts;
use crate::hub::retry::Limit;
use crate::settings::{Flags, Settings};
use crate::store::access::Access;
use crate::store::atomic;
use crate::token::{Kind, Token};
use crate::token_source::TokenSource;
use crate::world::World;
use asking::Asking;
use files::{JOURNAL, LOCK, Standing};
pub(super) use settings::{SECRETS, SETTINGS, is_meant};

/// This host, as a worker of a `LyftData` server.
pub(super) struct Lyftdata<'a> {
    flags: &'a Flags,
    world: &'a World,
    settings: Settings,
    jobs_dir: PathBuf,
    name: Option<String>,
    /// An id to ask for.
    worker: Option<String>,
}

impl Lyftdata<'_> {
    fn name(&self) -> Result<&str> {
        self.name.as_deref().ok_or_else(|| {
            Error::new(
                ErrorId::BadSetting,
                "a worker needs a unique name, and none is given",
            )
            .about("the worker's name")
            .hint("set LYFTDATA_WORKER_NAME, or give --worker-name NAME")
        })
    }

    fn held(&self, worker: &str, name: Option<&str>) -> Vec<Held> {
        [
            ("worker", "worker", json!(worker)),
            ("name", "name", json!(name)),
            ("jobs dir", "jobs_dir", json!(self.jobs_dir)),
        ]
        .map(|(label, key, value)| Held { label, key, value })
        .into()
    }
}

impl Dialect for Lyftdata<'_> {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn takes_secret(&self, force: bool) -> Result<bool> {
        Ok(force || matches!(self.standing()?, Standing::New))
    }

    fn read_secret(&self, text: &str, source: &TokenSource) -> Result<Token> {
        Token::shared(text, source)
    }

    fn plan(&self, secret: Option<Kind>, force: bool) -> Result<Plan> {
        match self.standing()? {
            Standing::Unfinished => return Ok(Plan::Repair),
            Standing::Enrolled(_) if !force && self.has_leftovers() => return Ok(Plan::Repair),
            Standing::Enrolled(_) if !force => return Ok(Plan::Nothing),
            Standing::Enrolled(_) | Standing::New => {}
        }
        self.name()?;
        if secret.is_none() {
            return Err(missing());
        }
        Ok(Plan::Ask)
    }

    fn folders(&self) -> Vec<Folder> {
        vec![Folder {
            name: "jobs directory",
            path: self.jobs_dir.clone(),
            grant: Access::private().shared_folder(),
            is_foreign: true,
            fault: ErrorId::StateUnwritable,
        }]
    }

    fn lock_name(&self) -> &'static str {
        LOCK
    }

    fn settle(&mut self, _: Limit) -> Later<'_, ()> {
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

    fn exchange<'a>(
        &'a self,
        secret: Option<&'a Token>,
        _: bool,
        _: Limit,
    ) -> Later<'a, Box<dyn Exchange + 'a>> {
        Box::pin(async move {
            let asking = Asking::prepare(self, secret.ok_or_else(missing)?.secret())?;
            Ok(Box::new(asking) as Box<dyn Exchange + 'a>)
        })
    }

    fn repair(&self) -> Result<bool> {
        // What was confirmed is in its files by now; a note of a request is of no more use.
        let is_left = self.path(JOURNAL).exists();
        self.forget()?;
        Ok(is_left)
    }

    fn enrolled(&self) -> Result<Enrolment> {
        let Standing::Enrolled(worker) = self.standing()? else {
            return Err(missing());
        };
        Ok(Enrolment {
            done: Done::AlreadyEnrolled,
            hub_url: self.settings.hub_url.value.to_string(),
            hostname: None,
            changed: false,
            holds: self.held(&worker, self.name.as_deref()),
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
        told::preview(self, secret, force, facts)
    }

    fn status(&self) -> Result<Account> {
        told::account(self)
    }

    fn checks(&self) -> Vec<Check> {
        told::checks(self)
    }

    fn without_secret(&self) -> Check {
        told::without_secret(self)
    }

    fn has_service(&self) -> bool {
        false
    }

    /// The worker itself is `LyftData`'s own program; what this one does in its place is to enrol.
    fn access(&self) -> Access {
        Access::private()
    }

    fn serve(&self) -> Later<'_, ()> {
        Box::pin(async {
            let enrolment = enrolment::enrol(self.flags, false, self.world).await?;
            tracing::info!(
                "{}: the worker's id and API key are in {}",
                enrolment.done.word(),
                self.jobs_dir.display()
            );
            Ok(())
        })
    }
}

/// The exits of a worker that has nothing to begin with, as its troubleshooting table has them.
fn missing() -> Error {
    Error::new(
        ErrorId::TokenMissing,
        "this worker is not enrolled, and the shared secret is what admits it",
    )
    .hint("set LYFTDATA_AUTO_ENROLLMENT_KEY, or use --token-file PATH, --token-file - or --token-command CMD")
}
