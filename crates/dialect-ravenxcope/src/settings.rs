//! The settings of a sensor: the environment overrides the env file.

use std::path::{Path, PathBuf};

use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::plain::{absolute_path, given};
use agent_core::settings::Setting;
use agent_core::sourced::{Source, Sourced};
use agent_core::token::Secret;

pub(crate) const INSTALL_TOKEN: &str = "INSTALL_TOKEN";
pub(crate) const SENSOR_TOKEN: &str = "SENSOR_TOKEN";

/// Variables that hold a secret: no child process inherits them.
pub(crate) const SECRETS: &[&str] = &[INSTALL_TOKEN, SENSOR_TOKEN];
pub(crate) const SENSOR_ID: &str = "SENSOR_ID";
pub(crate) const SENSOR_PORT: &str = "SENSOR_PORT";
pub(crate) const BACKEND_URL: &str = "BACKEND_URL";
const CONFIG_FILE: &str = "CONFIG_FILE";
pub(crate) const HOSTNAME_FILE: &str = "HOST_HOSTNAME_FILE";
pub(crate) const OS_RELEASE_FILE: &str = "HOST_OS_RELEASE_FILE";
/// Path of the env file in the documentation of `RavenXcope`.
const DEFAULT_FILE: &str = "/etc/ravenxcope/sensor-agent.env";
/// The port of SSH.
pub(crate) const DEFAULT_PORT: u16 = 22;

pub(crate) static BACKEND: Setting = Setting {
    name: "backend",
    flag: Some("--hub-url"),
    variables: &[BACKEND_URL],
    key: Some(BACKEND_URL),
    default: None,
    help: "URL of the backend.",
};
static ID: Setting = Setting {
    name: "sensor's id",
    flag: None,
    variables: &[SENSOR_ID],
    key: Some(SENSOR_ID),
    default: None,
    help: "The sensor's id at the backend: 1 to 128 letters, digits and `-._~:@`.",
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
    help: "The credential, which an enrolment writes. A sensor that has it is enrolled.",
};
static PORT: Setting = Setting {
    name: "sensor's port",
    flag: None,
    variables: &[SENSOR_PORT],
    key: Some(SENSOR_PORT),
    default: Some("22"),
    help: "The port of SSH that is sent to the backend.",
};
static FILE: Setting = Setting {
    name: "env file",
    flag: Some("--config"),
    variables: &[CONFIG_FILE],
    key: None,
    default: Some(DEFAULT_FILE),
    help: "File with the keys of this table. An enrolment writes the sensor token into it.",
};

/// The settings that only this dialect has.
pub(crate) static SETTINGS: &[&Setting] = &[&BACKEND, &ID, &INSTALL, &TOKEN, &PORT, &FILE];

/// Returns whether the environment has the variables of a sensor.
pub(crate) fn is_meant(environment: &Environment) -> bool {
    let secrets = [INSTALL_TOKEN, SENSOR_TOKEN];
    environment.env(SENSOR_ID).is_some()
        && (environment.env(BACKEND_URL).is_some()
            || secrets
                .iter()
                .any(|name| environment.secret(name).is_some()))
}

/// Returns the path of the env file on the host, without `--root`.
pub(crate) fn config_path(flags: &Flags, environment: &Environment) -> Result<PathBuf> {
    let flag = given(flags.config.as_deref());
    let (path, source) = match (flag, environment.env(CONFIG_FILE)) {
        (Some(path), _) => (Path::new(path), Source::Flag("--config")),
        (None, Some(path)) => (Path::new(path), Source::Variable(CONFIG_FILE)),
        (None, None) => (Path::new(DEFAULT_FILE), Source::Default),
    };
    absolute_path(path, &source)
}

/// Checks a token of which only the backend knows the form.
pub(crate) fn opaque(text: &str, source: &Source) -> Result<Secret> {
    Secret::opaque(text).map_err(|fault| {
        Error::new(ErrorId::TokenMalformed, fault)
            .about(source)
            .hint("correct the value in the place named above")
    })
}

/// Checks a sensor's id, which is a part of each URL.
pub(crate) fn check_id(sourced: Sourced<String>) -> Result<Sourced<String>> {
    let id = &sourced.value;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte);
    if (1..=128).contains(&id.len()) && id.bytes().all(is_allowed) && !id.bytes().all(|b| b == b'.')
    {
        return Ok(sourced);
    }
    let cause = "it is not 1 to 128 letters, digits and `-._~:@`";
    Err(Error::new(ErrorId::BadSetting, cause).about(sourced.source))
}

/// Checks the port of SSH.
pub(crate) fn check_port(sourced: &Sourced<String>) -> Result<u16> {
    let port = sourced.value.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| {
        Error::new(ErrorId::BadSetting, "it is not a port, 1 to 65535").about(&sourced.source)
    })
}
