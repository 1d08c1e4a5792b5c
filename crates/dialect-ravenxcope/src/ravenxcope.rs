//! The host of this dialect: its settings and its files.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_core::enrolment::ReportField;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::plain::refuse_control;
use agent_core::settings::{DialectSettings, Settings};
use agent_core::sourced::{Source, Sourced};
use agent_core::store::env_file::EnvFile;
use agent_core::store::lock;
use agent_core::token::Secret;
use serde_json::json;
use zeroize::Zeroizing;

use crate::pending_request::PendingRequest;
use crate::settings::{
    self, BACKEND, BACKEND_URL, DEFAULT_PORT, HOSTNAME_FILE, INSTALL_TOKEN, OS_RELEASE_FILE,
    SENSOR_ID, SENSOR_PORT, SENSOR_TOKEN, config_path,
};

/// Name of the lock, in the folder of the env file.
pub(crate) const LOCK: &str = lock::DIALECT_FILE;
/// Interval between heartbeats when the backend has named none, or its response was lost.
pub(crate) const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);

/// This host as a sensor of a `RavenXcope` backend.
pub(crate) struct Ravenxcope<'a> {
    pub(crate) flags: &'a Flags,
    pub(crate) environment: &'a Environment,
    pub(crate) settings: Settings,
    pub(crate) file: EnvFile,
    pub(crate) sensor_id: Option<Sourced<String>>,
    pub(crate) port: u16,
    pub(crate) token: Option<Sourced<Secret>>,
    pub(crate) pending: Option<PendingRequest>,
    /// The place of the service for a credential that cannot be written.
    pub(crate) unsaved: Option<&'a UnsavedCredential>,
}

/// A credential that could not be written, and that is only in the memory of the service.
#[derive(Default)]
pub(crate) struct UnsavedCredential(pub(crate) RefCell<Option<Credential>>);

/// The credential that an enrolment brings.
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

    /// Reads the settings for the facts alone. They need no backend, and no env file that cannot be read.
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
            tracing::debug!("{} is ignored: {}", below.display(), error.cause());
            EnvFile::absent(&below, environment.access())
        });
        // No request is sent to this URL. A loopback address has no route to another host, so the default
        // route decides, as the documentation of RavenXcope has it.
        Self::of(flags, environment, &path, file, Some("https://localhost"))
    }

    /// Resolves all settings. `backend` is the URL where none is set.
    ///
    /// # Errors
    /// Wrong settings, and a broken env file.
    pub(crate) fn of(
        flags: &'a Flags,
        environment: &'a Environment,
        path: &Path,
        file: EnvFile,
        backend: Option<&str>,
    ) -> Result<Self> {
        let token = match environment.secret(SENSOR_TOKEN) {
            Some(secret) => {
                use secrecy::ExposeSecret;
                Some((
                    secret.expose_secret().trim().to_owned(),
                    Source::Variable(SENSOR_TOKEN),
                ))
            }
            None => file.get(SENSOR_TOKEN)?.map(|text| {
                (
                    text.trim().to_owned(),
                    Source::Key(SENSOR_TOKEN, path.to_owned()),
                )
            }),
        };
        let token = token.map(|(text, source)| {
            let text = Zeroizing::new(text);
            settings::opaque(&text, &source).map(|value| Sourced { value, source })
        });
        let token = token.transpose()?;
        let install = file.get(INSTALL_TOKEN)?.map(|text| {
            let source = Source::Key(INSTALL_TOKEN, path.to_owned());
            settings::opaque(text.trim(), &source).map(|secret| (INSTALL_TOKEN, secret))
        });
        let in_file = |key| -> Result<Option<String>> {
            Ok(file.get(key)?.map(|text| text.as_str().to_owned()))
        };
        let folder = path.parent().unwrap_or(path).to_owned();
        let own = DialectSettings {
            hub_url: &BACKEND,
            hub_url_in_file: in_file(BACKEND_URL)?.or(backend.map(str::to_owned)),
            file: path.to_owned(),
            folder,
            secrets: &[INSTALL_TOKEN],
            // An enrolled host does not need an install token, so a malformed one is not an error.
            secret_in_file: match (install, &token) {
                (Some(Err(_)), Some(_)) | (None, _) => None,
                (Some(secret), _) => Some(secret?),
            },
        };
        let mut settings = Settings::of_dialect(flags, environment, own)?;
        for (key, place) in [
            (HOSTNAME_FILE, &mut settings.hostname_file),
            (OS_RELEASE_FILE, &mut settings.os_release_file),
        ] {
            if environment.env(key).is_none()
                && let Some(value) = in_file(key)?
            {
                let source = Source::Key(key, path.to_owned());
                refuse_control(&value, &source)?;
                let value = value.into();
                *place = Sourced { value, source };
            }
        }
        let sourced = |key: &'static str| -> Result<Option<Sourced<String>>> {
            if let Some(value) = environment.env(key) {
                let source = Source::Variable(key);
                let value = value.to_string_lossy().trim().to_owned();
                return Ok(Some(Sourced { value, source }));
            }
            let source = Source::Key(key, path.to_owned());
            Ok(in_file(key)?.map(|value| Sourced { value, source }))
        };
        let sensor_id = sourced(SENSOR_ID)?.map(settings::check_id).transpose()?;
        let pending = sensor_id
            .as_ref()
            .and_then(|id| PendingRequest::load(file.folder(), &id.value));
        Ok(Self {
            flags,
            environment,
            settings,
            port: sourced(SENSOR_PORT)?
                .map_or(Ok(DEFAULT_PORT), |port| settings::check_port(&port))?,
            sensor_id,
            token,
            pending,
            file,
            unsaved: None,
        })
    }

    /// Returns the path of the env file with all links resolved.
    pub(crate) fn target(&self) -> PathBuf {
        self.environment.resolved_path(&self.settings.config_path)
    }

    /// Returns the sensor's id, which each request needs.
    ///
    /// # Errors
    /// [`ErrorId::BadSetting`] when no id is set.
    pub(crate) fn id(&self) -> Result<&str> {
        let id = self.sensor_id.as_ref();
        id.map(|id| id.value.as_str()).ok_or_else(|| {
            Error::new(ErrorId::BadSetting, "no id is set, and there is no default")
                .about(SENSOR_ID)
                .hint(format!(
                    "set SENSOR_ID in the environment or in {}, to the id on the backend's page of the sensor",
                    self.settings.config_path.display()
                ))
        })
    }

    /// Refuses another backend than the one that issued the sensor token of the env file. A token in the environment
    /// is the operator's, as the backend's URL is.
    ///
    /// # Errors
    /// [`ErrorId::OtherHub`].
    pub(crate) fn refuse_other_backend(&self) -> Result<()> {
        let in_file = |token: &&Sourced<Secret>| matches!(token.source, Source::Key(..));
        let token = self.token.as_ref().filter(in_file);
        let pending = self.pending.as_ref();
        let issuer = token.and_then(|token| pending?.issuer_of(&token.value));
        let backend = &self.settings.hub_url;
        match issuer {
            Some(issuer) if issuer != backend.value.origin() => Err(Error::new(
                ErrorId::OtherHub,
                format!("the sensor token is from {issuer}"),
            )
            .about(&backend.value)
            .hint(format!(
                "to stay at that backend: set BACKEND_URL={issuer} in {}; to move to the new one: monsys-agent enrol --dialect ravenxcope --force, with an install token of that backend",
                self.settings.config_path.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Returns the record of an earlier request whose response was lost, if there is one.
    pub(crate) fn lost_response(&self) -> Option<&PendingRequest> {
        let token = self.token.as_ref().map(|token| &token.value);
        self.pending
            .as_ref()
            .filter(|pending| pending.has_no_response(token))
    }

    /// Returns whether a run was killed after it had written the sensor token, and before it had recorded
    /// that.
    pub(crate) fn needs_repair(&self) -> bool {
        self.token.is_some()
            && self.lost_response().is_none()
            && self.pending.as_ref().is_some_and(PendingRequest::is_open)
    }

    /// Returns the interval between heartbeats.
    pub(crate) fn interval(&self) -> Duration {
        self.pending
            .as_ref()
            .and_then(PendingRequest::interval)
            .unwrap_or(DEFAULT_INTERVAL)
    }

    /// Returns the credential of heartbeats, if the host is enrolled.
    pub(crate) fn credential(&self) -> Option<Credential> {
        let interval = self.interval();
        let token = self.token.as_ref()?.value.clone();
        Some(Credential { token, interval })
    }
}

impl Ravenxcope<'_> {
    /// Returns the error of a sensor without a sensor token and without an install token.
    pub(crate) fn no_install_token(&self) -> Error {
        Error::new(ErrorId::TokenMissing, "this sensor has no SENSOR_TOKEN yet, and no INSTALL_TOKEN")
            .hint(format!(
                "have an operator of the backend make an install token for this sensor, and set INSTALL_TOKEN in the environment or in {}; or use --token-file PATH, --token-file - or --token-command CMD",
                self.settings.config_path.display()
            ))
    }

    /// Returns the fields of an enrolled sensor for the report of a run.
    pub(crate) fn report_fields(&self, interval: Duration) -> Vec<ReportField> {
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

/// Refuses an env file that other users than root can write, and a link of theirs. The env file names the
/// backend and holds the secret that root sends to it.
pub(crate) fn refuse_foreign(path: &Path, environment: &Environment) -> Result<()> {
    let link = environment.path(path);
    environment.refuse_foreign_folder(link.parent().unwrap_or(&link))?;
    environment.refuse_foreign_file(&environment.resolved_path(path))
}

/// Warns that the credential could not be written. The service continues then, as the documentation of
/// `RavenXcope` has it.
pub(crate) fn warn_unsaved(error: &Error) {
    tracing::warn!(
        "{}: {}; continuing with the sensor token in memory, which is lost when this process ends: a new install token is needed then; hint: {} (with --strict this is an error)",
        error.what(),
        error.cause(),
        error.next_step()
    );
}
