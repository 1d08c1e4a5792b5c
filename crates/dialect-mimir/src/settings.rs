//! The settings of a Mimir host.

use std::path::{Path, PathBuf};

use crate::host_state::{HostState, RECORD_FILE};
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::flags::Flags;
use agent_core::plain::{absolute_path, given, refuse_control};
use agent_core::settings::{CaFile, DialectSettings, Setting, Settings};
use agent_core::sourced::Source;

/// The variable of the secret. The documentation of Mimir names none, so the name is the agent's own.
pub(crate) const SECRET: &str = "MIMIR_ENROLLMENT_SECRET";

/// Variables that hold a secret: no child process inherits them.
pub(crate) const SECRETS: &[&str] = &[SECRET];
/// The variable of the server.
const SERVER: &str = "MIMIR_SERVER_URL";
/// The variable of the folder.
pub(crate) const FOLDER: &str = "MIMIR_DIR";
pub(crate) const DEFAULT_FOLDER: &str = "/etc/mimir";
/// The placeholder where no server is set and no request is sent.
const NO_SERVER: &str = "https://localhost";

static SERVER_URL: Setting = Setting {
    name: "server",
    flag: Some("--hub-url"),
    variables: &[SERVER, "MONSYS_HUB_URL"],
    key: Some("server_url"),
    default: None,
    help: "URL of the Mimir server.",
};

static SECRET_SETTING: Setting = Setting {
    name: "enrollment secret",
    flag: None,
    variables: &[SECRET, "MONSYS_TOKEN"],
    key: None,
    default: None,
    help: "The shared secret. `--token-file` and `--token-command` give it as well, and `--enrollment-secret`, which is removed from the command line at once.",
};

static FOLDER_SETTING: Setting = Setting {
    name: "folder",
    flag: Some("--state-dir"),
    variables: &[FOLDER],
    key: None,
    default: Some(DEFAULT_FOLDER),
    help: "Folder of key and certificates.",
};

/// The settings that only this dialect has.
pub(crate) static SETTINGS: &[&Setting] = &[&SERVER_URL, &SECRET_SETTING, &FOLDER_SETTING];

/// Returns whether the environment names a Mimir server or its secret.
pub(crate) fn is_meant(environment: &Environment) -> bool {
    environment.secret(SECRET).is_some() || environment.env(SERVER).is_some()
}

/// Resolves the settings. Returns them with `true` when a server is set. Otherwise the settings have a
/// placeholder, since not every command needs a server.
///
/// # Errors
/// Wrong settings, and a CA file that other users can write.
pub(crate) fn resolve(
    flags: &Flags,
    environment: &Environment,
    state: &HostState,
    folder: &Path,
) -> Result<(Settings, bool)> {
    let mut flags_with_pin = flags.clone();
    // The pin of the enrolment is valid until another one is set.
    if environment.env("MONSYS_CA_PIN").is_none() && flags_with_pin.ca_pin.is_none() {
        flags_with_pin.ca_pin.clone_from(&state.record.ca_pin);
    }
    let own = |server: Option<String>| DialectSettings {
        hub_url: &SERVER_URL,
        hub_url_in_file: server,
        file: folder.join(RECORD_FILE),
        folder: folder.to_owned(),
        secrets: &[SECRET],
        secret_in_file: None,
    };
    let known = state.record.server_url.clone();
    let has_server = known.is_some()
        || given(flags.hub_url.as_deref()).is_some()
        || SERVER_URL
            .variables
            .iter()
            .any(|name| environment.env(name).is_some());
    let server = known.or_else(|| Some(NO_SERVER.to_owned()));
    let mut settings = Settings::of_dialect(&flags_with_pin, environment, own(server))?;
    if settings.ca_file.is_none()
        && let Some(stored) = &state.record.ca_file
    {
        let source = Source::Key("ca_file", folder.join(RECORD_FILE));
        refuse_control(stored, &source)?;
        // A CA file outside of --root is still at its own path.
        let below = Some(environment.resolved_path(stored)).filter(|path| path.exists());
        let path = below.unwrap_or_else(|| stored.clone());
        environment.refuse_foreign_file(&path)?;
        settings.ca_file = Some(CaFile::new(path, source));
    }
    Ok((settings, has_server))
}

/// Returns the folder of key and certificates, without `--root`.
///
/// # Errors
/// A path that is not valid.
pub(crate) fn folder(flags: &Flags, environment: &Environment) -> Result<PathBuf> {
    let (path, source) = match given(flags.state_dir.as_deref()) {
        Some(dir) => (PathBuf::from(dir), Source::Flag("--state-dir")),
        None => match environment.env(FOLDER) {
            Some(dir) => (PathBuf::from(dir), Source::Variable(FOLDER)),
            None => (PathBuf::from(DEFAULT_FOLDER), Source::Default),
        },
    };
    absolute_path(&path, &source)
}
