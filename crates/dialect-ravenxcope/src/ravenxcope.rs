//! The host of this dialect: its settings, and its files.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_core::enrolment::ReportField;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::settings::Settings;
use agent_core::sourced::Sourced;
use agent_core::store::env_file::EnvFile;
use agent_core::store::lock;
use agent_core::token::Secret;
use serde_json::json;

use crate::pending_request::PendingRequest;
use crate::settings::{SENSOR_ID, config_path};

/// Name of the lock, in the folder of the env file.
pub(crate) const LOCK: &str = lock::DIALECT_FILE;
/// Between heartbeats when the backend has not said, or what it said was lost.
pub(crate) const INTERVAL: Duration = Duration::from_secs(30);

/// This host, as it stands to a `RavenXcope` backend.
pub(crate) struct Ravenxcope<'a> {
    pub(crate) flags: &'a Flags,
    pub(crate) environment: &'a Environment,
    pub(crate) settings: Settings,
    pub(crate) file: EnvFile,
    pub(crate) sensor_id: Option<Sourced<String>>,
    pub(crate) port: u16,
    pub(crate) token: Option<Sourced<Secret>>,
    pub(crate) mark: Option<PendingRequest>,
    /// Where the service keeps a credential that its sink does not take.
    pub(crate) memory: Option<&'a Memory>,
}

/// A credential that is nowhere but in the memory of the service.
#[derive(Default)]
pub(crate) struct Memory(pub(crate) RefCell<Option<Credential>>);

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
    pub(crate) fn read(flags: &'a Flags, environment: &'a Environment) -> Result<Self> {
        let path = config_path(flags, environment)?;
        refuse_foreign(&path, environment)?;
        let file = EnvFile::load(
            &environment.path(&path),
            &environment.resolved_path(&path),
            environment.access(),
        )?;
        Self::of(flags, environment, &path, file, None)
    }

    /// As [`Ravenxcope::read`], for the facts alone: they do without a backend, and without an env
    /// file that cannot be read.
    ///
    /// # Errors
    /// Bad settings.
    pub(crate) fn read_for_facts(flags: &'a Flags, environment: &'a Environment) -> Result<Self> {
        let path = config_path(flags, environment)?;
        let below = environment.path(&path);
        refuse_foreign(&path, environment)?;
        let file = EnvFile::load(
            &below,
            &environment.resolved_path(&path),
            environment.access(),
        )
        .unwrap_or_else(|error| {
            tracing::debug!("{} is passed over: {}", below.display(), error.cause());
            EnvFile::absent(&below, environment.access())
        });
        // Nothing is sent there. The way to a loopback address is no way out, so the default route
        // decides, as its documents have it.
        Self::of(flags, environment, &path, file, Some("https://localhost"))
    }

    /// Returns where the env file's last link leads to.
    pub(crate) fn target(&self) -> PathBuf {
        self.environment.resolved_path(&self.settings.config_path)
    }

    /// The sensor's id, without which nothing can be asked.
    pub(crate) fn id(&self) -> Result<&str> {
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
    pub(crate) fn lost_answer(&self) -> Option<&PendingRequest> {
        let token = self.token.as_ref().map(|token| &token.value);
        self.mark.as_ref().filter(|mark| mark.is_open(token))
    }

    /// The run that wrote the sensor token was cut off before it had written that down.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.token.is_some()
            && self.lost_answer().is_none()
            && self.mark.as_ref().is_some_and(PendingRequest::is_explicit)
    }

    pub(crate) fn interval(&self) -> Duration {
        self.mark
            .as_ref()
            .and_then(PendingRequest::interval)
            .unwrap_or(INTERVAL)
    }

    /// What heartbeats go out with, if the host is enrolled.
    pub(crate) fn credential(&self) -> Option<Credential> {
        let interval = self.interval();
        let token = self.token.as_ref()?.value.clone();
        Some(Credential { token, interval })
    }
}

impl Ravenxcope<'_> {
    pub(crate) fn no_install_token(&self) -> Error {
        Error::new(ErrorId::TokenMissing, "this sensor has no SENSOR_TOKEN yet, and no INSTALL_TOKEN")
            .hint(format!(
                "have an install token made for this sensor, and set INSTALL_TOKEN in the environment or in {}; or use --token-file PATH, --token-file - or --token-command CMD",
                self.settings.config_path.display()
            ))
    }

    /// What an enrolled host has.
    pub(crate) fn held(&self, interval: Duration) -> Vec<ReportField> {
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
        .map(|(label, key, value)| ReportField { label, key, value })
        .into()
    }
}

/// The env file says where the backend is, and what is sent there: root obeys none that others can write,
/// and no link of theirs.
pub(crate) fn refuse_foreign(path: &Path, environment: &Environment) -> Result<()> {
    let link = environment.path(path);
    environment.refuse_foreign_folder(link.parent().unwrap_or(&link))?;
    environment.refuse_foreign_file(&environment.resolved_path(path))
}

/// A sink that fails is no reason for the service to end, as its documents have it.
pub(crate) fn warn_of(error: &Error) {
    tracing::warn!(
        "{}: {}; going on with the sensor token in memory, which ends with this process: then a new install token is needed; hint: {} (with --strict this is an error)",
        error.what(),
        error.cause(),
        error.next_step()
    );
}
