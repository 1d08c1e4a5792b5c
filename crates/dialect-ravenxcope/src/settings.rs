//! What a sensor is told by its environment and its env file: the environment wins.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::pending_request::PendingRequest;
use crate::ravenxcope::Ravenxcope;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::plain::{absolute_path, refuse_control};
use agent_core::settings::{DialectSettings, Setting, Settings};
use agent_core::sourced::{Source, Sourced};
use agent_core::store::env_file::EnvFile;
use agent_core::token::Secret;

pub(crate) const INSTALL_TOKEN: &str = "INSTALL_TOKEN";
pub(crate) const SENSOR_TOKEN: &str = "SENSOR_TOKEN";

/// Variables that hold a secret: no child process inherits them.
pub(crate) const SECRETS: &[&str] = &[INSTALL_TOKEN, SENSOR_TOKEN];
pub(crate) const SENSOR_ID: &str = "SENSOR_ID";
pub(crate) const SENSOR_PORT: &str = "SENSOR_PORT";
pub(crate) const BACKEND_URL: &str = "BACKEND_URL";
const CONFIG_FILE: &str = "CONFIG_FILE";
const HOSTNAME_FILE: &str = "HOST_HOSTNAME_FILE";
const OS_RELEASE_FILE: &str = "HOST_OS_RELEASE_FILE";
/// Where its system keeps the env file.
const DEFAULT_FILE: &str = "/etc/ravenxcope/sensor-agent.env";
/// Port of SSH.
const DEFAULT_PORT: u16 = 22;

static BACKEND: Setting = Setting {
    name: "backend",
    flag: Some("--hub-url"),
    variables: &[BACKEND_URL],
    key: Some(BACKEND_URL),
    default: None,
    help: "Where the backend is.",
};
static ID: Setting = Setting {
    name: "sensor's id",
    flag: None,
    variables: &[SENSOR_ID],
    key: Some(SENSOR_ID),
    default: None,
    help: "The id that the backend knows the sensor by: 1 to 128 letters, digits and `-._~:@`.",
};
static INSTALL: Setting = Setting {
    name: "install token",
    flag: None,
    variables: &[INSTALL_TOKEN, "MONSYS_TOKEN"],
    key: Some(INSTALL_TOKEN),
    default: None,
    help: "The one-time secret. `--token-file` and `--token-command` give it as well.",
};
static TOKEN: Setting = Setting {
    name: "sensor token",
    flag: None,
    variables: &[SENSOR_TOKEN],
    key: Some(SENSOR_TOKEN),
    default: None,
    help: "The credential, which an enrolment writes. With it there is no enrolment.",
};
static PORT: Setting = Setting {
    name: "sensor's port",
    flag: None,
    variables: &[SENSOR_PORT],
    key: Some(SENSOR_PORT),
    default: Some("22"),
    help: "Port of SSH that the backend is told.",
};
static FILE: Setting = Setting {
    name: "env file",
    flag: Some("--config"),
    variables: &[CONFIG_FILE],
    key: None,
    default: Some(DEFAULT_FILE),
    help: "Where the keys of this table are read from, and the sensor token is put.",
};

/// The settings that only this system has.
pub(crate) static SETTINGS: &[&Setting] = &[&BACKEND, &ID, &INSTALL, &TOKEN, &PORT, &FILE];

/// Whether only this system's own variables are there.
pub(crate) fn is_meant(environment: &Environment) -> bool {
    let secrets = [INSTALL_TOKEN, SENSOR_TOKEN];
    environment.env(SENSOR_ID).is_some()
        && (environment.env(BACKEND_URL).is_some()
            || secrets
                .iter()
                .any(|name| environment.secret(name).is_some()))
}

impl<'a> Ravenxcope<'a> {
    /// Resolves all settings. `backend` stands in where none is given.
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
            opaque(&text, &source).map(|value| Sourced { value, source })
        });
        let token = token.transpose()?;
        let install = file.get(INSTALL_TOKEN)?.map(|text| {
            let source = Source::Key(INSTALL_TOKEN, path.to_owned());
            opaque(text.trim(), &source).map(|secret| (INSTALL_TOKEN, secret))
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
            // A host that is enrolled has no need of it, whatever it looks like.
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
                refuse_control(&value, &Source::Key(key, path.to_owned()))?;
                *place = value.into();
            }
        }
        let given = |key: &'static str| -> Result<Option<Sourced<String>>> {
            if let Some(value) = environment.env(key) {
                let source = Source::Variable(key);
                let value = value.to_string_lossy().trim().to_owned();
                return Ok(Some(Sourced { value, source }));
            }
            let source = Source::Key(key, path.to_owned());
            Ok(in_file(key)?.map(|value| Sourced { value, source }))
        };
        let sensor_id = given(SENSOR_ID)?.map(check_id).transpose()?;
        let mark = sensor_id
            .as_ref()
            .and_then(|id| PendingRequest::load(file.folder(), &id.value));
        Ok(Self {
            flags,
            environment,
            settings,
            port: given(SENSOR_PORT)?.map_or(Ok(DEFAULT_PORT), |given| check_port(&given))?,
            sensor_id,
            token,
            mark,
            file,
            memory: None,
        })
    }
}

/// Path of the env file on the host, without `--root`.
pub(crate) fn config_path(flags: &Flags, environment: &Environment) -> Result<PathBuf> {
    let flag = flags.config.as_deref().filter(|path| !path.is_empty());
    let (path, source) = match (flag, environment.env(CONFIG_FILE)) {
        (Some(path), _) => (Path::new(path), Source::Flag("--config")),
        (None, Some(path)) => (Path::new(path), Source::Variable(CONFIG_FILE)),
        (None, None) => (Path::new(DEFAULT_FILE), Source::Default),
    };
    absolute_path(path, &source)
}

fn opaque(text: &str, source: &Source) -> Result<Secret> {
    Secret::opaque(text).map_err(|fault| {
        Error::new(ErrorId::TokenMalformed, fault)
            .about(source)
            .hint("correct it in the place named above")
    })
}

/// It is a part of each call's path.
fn check_id(given: Sourced<String>) -> Result<Sourced<String>> {
    let id = &given.value;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte);
    if (1..=128).contains(&id.len()) && id.bytes().all(is_allowed) && !id.bytes().all(|b| b == b'.')
    {
        return Ok(given);
    }
    let cause = "it is not 1 to 128 letters, digits and `-._~:@`";
    Err(Error::new(ErrorId::BadSetting, cause).about(given.source))
}

fn check_port(given: &Sourced<String>) -> Result<u16> {
    let port = given.value.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| {
        Error::new(ErrorId::BadSetting, "it is no port, 1 to 65535").about(&given.source)
    })
}
