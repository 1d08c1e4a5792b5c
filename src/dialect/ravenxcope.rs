//! `RavenXcope`: a one-time install token in the body, exchanged for a sensor token, put into an env
//! file.
//!
//! The protocol cannot give exactly-once: when the answer is lost, the install token is used up and
//! the sensor token went with it. So a mark is on the disk before the request leaves, and a refusal
//! that follows says what happened and what the operator does.

mod asking;
mod mark;
mod sensor;
mod settings;
mod step;
mod told;
pub(crate) mod wire;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Account, Dialect, Exchange, Folder, Later, Plan, Preview};
use crate::doctor::Check;
use crate::enrolment::{self, Cleanup, Done, Enrolment, Held};
use crate::error::{Error, ErrorId, Kind as ErrorKind, Result};
use crate::facts::HostFacts;
use crate::hub::retry::Limit;
use crate::service;
use crate::settings::{Flags, Given, Settings};
use crate::store::access::Access;
use crate::store::atomic;
use crate::store::env_file::EnvFile;
use crate::store::lock;
use crate::token::{Kind, Secret, Token};
use crate::token_source::TokenSource;
use crate::world::World;
use asking::Asking;
use mark::Mark;
use sensor::Sensor;
pub(super) use settings::{SECRETS, SETTINGS, is_meant};
use settings::{SENSOR_ID, config_path};

const LOCK: &str = lock::DIALECT_FILE;
/// Between heartbeats when the backend has not said, or what it said was lost.
const INTERVAL: Duration = Duration::from_secs(30);

/// This host, as it stands to a `RavenXcope` backend.
pub(super) struct Ravenxcope<'a> {
    flags: &'a Flags,
    world: &'a World,
    settings: Settings,
    file: EnvFile,
    sensor_id: Option<Given<String>>,
    port: u16,
    token: Option<Given<Secret>>,
    mark: Option<Mark>,
    /// Where the service keeps a credential that its sink does not take.
    memory: Option<&'a Memory>,
}

/// A credential that is nowhere but in the memory of the service.
#[derive(Default)]
struct Memory(RefCell<Option<Credential>>);

/// What an enrolment brings.
pub(crate) struct Credential {
    pub(crate) token: Secret,
    pub(crate) interval: Duration,
}

impl<'a> Ravenxcope<'a> {
    /// Reads the environment and the env file.
    ///
    /// # Errors
    /// Bad settings, [`ErrorId::EnvFileBroken`], and an env file that cannot be read.
    pub(super) fn read(flags: &'a Flags, world: &'a World) -> Result<Self> {
        let path = config_path(flags, world)?;
        refuse_foreign(&path, world)?;
        let file = EnvFile::load(
            &world.path(&path),
            &world.resolved_path(&path),
            world.access(),
        )?;
        Self::of(flags, world, &path, file, None)
    }

    /// As [`Ravenxcope::read`], for the facts alone: they do without a backend, and without an env
    /// file that cannot be read.
    ///
    /// # Errors
    /// Bad settings.
    pub(super) fn read_for_facts(flags: &'a Flags, world: &'a World) -> Result<Self> {
        let path = config_path(flags, world)?;
        let below = world.path(&path);
        refuse_foreign(&path, world)?;
        let file = EnvFile::load(&below, &world.resolved_path(&path), world.access())
            .unwrap_or_else(|error| {
                tracing::debug!("{} is passed over: {}", below.display(), error.cause());
                EnvFile::absent(&below, world.access())
            });
        // Nothing is sent there. The way to a loopback address is no way out, so the default route
        // decides, as its documents have it.
        Self::of(flags, world, &path, file, Some("https://localhost"))
    }

    /// Returns where the env file's last link leads to.
    fn target(&self) -> PathBuf {
        self.world.resolved_path(&self.settings.config_path)
    }

    /// The sensor's id, without which nothing can be asked.
    fn id(&self) -> Result<&str> {
        let given = self.sensor_id.as_ref();
        given.map(|id| id.value.as_str()).ok_or_else(|| {
            Error::new(ErrorId::BadSetting, "none is given, and there is no default")
                .about(SENSOR_ID)
                .hint(format!(
                    "set SENSOR_ID in the environment or in {}, as the backend's own page of the sensor has it",
                    self.settings.config_path.display()
                ))
        })
    }

    /// An answer to an earlier request was lost, as far as the disk tells.
    fn lost_answer(&self) -> Option<&Mark> {
        let token = self.token.as_ref().map(|token| &token.value);
        self.mark.as_ref().filter(|mark| mark.is_open(token))
    }

    /// The run that wrote the sensor token was cut off before it had written that down.
    fn is_unsettled(&self) -> bool {
        self.token.is_some()
            && self.lost_answer().is_none()
            && self.mark.as_ref().is_some_and(Mark::is_asked)
    }

    fn interval(&self) -> Duration {
        self.mark
            .as_ref()
            .and_then(Mark::interval)
            .unwrap_or(INTERVAL)
    }

    /// What heartbeats go out with, if the host is enrolled.
    fn credential(&self) -> Option<Credential> {
        let interval = self.interval();
        let token = self.token.as_ref()?.value.clone();
        Some(Credential { token, interval })
    }

    /// Enrols a sensor that is not enrolled. Without `--strict`, a sink that takes nothing is a
    /// warning, and `memory` holds the credential then.
    async fn enrol_first(flags: &Flags, world: &World, memory: &Memory) -> Result<()> {
        let kept = (!flags.strict).then_some(memory);
        let read = || -> Result<Ravenxcope<'_>> {
            let host = Ravenxcope::read(flags, world)?;
            Ok(Ravenxcope {
                memory: kept,
                ..host
            })
        };
        let open = || -> Result<Box<dyn Dialect + '_>> { Ok(Box::new(read()?)) };
        match enrolment::enrol_by(open, false, None, world).await {
            // Nothing was sent yet: afterwards the memory takes what the disk does not.
            Err(error) if !flags.strict && error.id().kind() == ErrorKind::Unwritable => {
                warn_of(&error);
                read()?.enrol_unlocked().await
            }
            other => other.map(drop),
        }
    }

    /// The sensor that heartbeats go out for. Where one user runs everything, it is enrolled first.
    async fn admit(flags: &'a Flags, world: &'a World, memory: &Memory) -> Result<Sensor<'a>> {
        let host = Self::read(flags, world)?;
        if host.token.is_some() {
            return Sensor::of_disk(host);
        }
        if let Some(credential) = step::handed_over(&host)? {
            return Sensor::new(host, credential);
        }
        if service::step::is_own(&host) {
            Self::enrol_first(flags, world, memory).await?;
        }
        let host = Self::read(flags, world)?;
        match memory.0.take() {
            Some(credential) => Sensor::new(host, credential),
            None => Sensor::of_disk(host),
        }
    }

    /// Asks without the lock, which there is no place for.
    async fn enrol_unlocked(&self) -> Result<()> {
        let limit = Limit::of(self.settings.wait);
        let secret = enrolment::fetch(self, self.world, limit).await?;
        let secret = secret.as_ref();
        Dialect::plan(self, secret.map(Token::kind), false)?;
        let mut asking = Asking::new(self, secret)?;
        enrolment::ask(&mut asking, secret, &self.settings, self.world, limit).await?;
        Ok(())
    }
}

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

impl Ravenxcope<'_> {
    fn no_install_token(&self) -> Error {
        Error::new(ErrorId::TokenMissing, "this sensor has no SENSOR_TOKEN yet, and no INSTALL_TOKEN")
            .hint(format!(
                "have an install token made for this sensor, and set INSTALL_TOKEN in the environment or in {}; or use --token-file PATH, --token-file - or --token-command CMD",
                self.settings.config_path.display()
            ))
    }

    /// What an enrolled host has.
    fn held(&self, interval: Duration) -> Vec<Held> {
        let id = self.sensor_id.as_ref().map(|id| id.value.as_str());
        [
            ("sensor", "sensor_id", json!(id)),
            (
                "interval in s",
                "heartbeat_interval_secs",
                json!(interval.as_secs()),
            ),
            ("config", "config", json!(self.file.path())),
        ]
        .map(|(label, key, value)| Held { label, key, value })
        .into()
    }
}

/// The env file says where the backend is, and what is sent there: root obeys none that others can write,
/// and no link of theirs.
fn refuse_foreign(path: &Path, world: &World) -> Result<()> {
    let link = world.path(path);
    world.refuse_foreign_folder(link.parent().unwrap_or(&link))?;
    world.refuse_foreign_file(&world.resolved_path(path))
}

/// A sink that fails is no reason for the service to end, as its documents have it.
fn warn_of(error: &Error) {
    tracing::warn!(
        "{}: {}; going on with the sensor token in memory, which ends with this process: then a new install token is needed; hint: {} (with --strict this is an error)",
        error.what(),
        error.cause(),
        error.next_step()
    );
}
