//! The settings of a Mimir host.

use std::path::{Path, PathBuf};

use crate::host::{Host, NOTES};
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::flags::Flags;
use agent_core::plain::{absolute_path, refuse_control};
use agent_core::settings::{CaFile, DialectSettings, Setting, Settings};
use agent_core::sourced::Source;

/// The variable of the secret. The documentation names none, so this one is ours.
pub(crate) const SECRET: &str = "MIMIR_ENROLLMENT_SECRET";

/// Variables that hold a secret: no child process inherits them.
pub(crate) const SECRETS: &[&str] = &[SECRET];
/// The variable of the server.
const SERVER: &str = "MIMIR_SERVER_URL";
/// The variable of the folder.
pub(crate) const FOLDER: &str = "MIMIR_DIR";
pub(crate) const DEFAULT_FOLDER: &str = "/etc/mimir";
/// Stands for a server where none is given and none is asked.
const NO_SERVER: &str = "https://localhost";

static SERVER_URL: Setting = Setting {
    name: "server",
    flag: Some("--hub-url"),
    variables: &[SERVER, "MONSYS_HUB_URL"],
    key: Some("server_url"),
    default: None,
    help: "Where the Mimir server is.",
};

static SECRET_SETTING: Setting = Setting {
    name: "enrollment secret",
    flag: None,
    variables: &[SECRET, "MONSYS_TOKEN"],
    key: None,
    default: None,
    help: "The shared secret. `--token-file` and `--token-command` give it as well, and `--enrollment-secret`, which is taken out of the command line at once.",
};

static FOLDER_SETTING: Setting = Setting {
    name: "folder",
    flag: None,
    variables: &[FOLDER],
    key: None,
    default: Some(DEFAULT_FOLDER),
    help: "Where key and certificates are put.",
};

/// The settings that only this system has.
pub(crate) static SETTINGS: &[&Setting] = &[&SERVER_URL, &SECRET_SETTING, &FOLDER_SETTING];

/// Whether what only Mimir's hosts have says that it is meant.
pub(crate) fn is_meant(environment: &Environment) -> bool {
    environment.secret(SECRET).is_some() || environment.env(SERVER).is_some()
}

/// The settings, and whether a server is given at all. Where none is, some other stands in its place:
/// not every command has need of one.
pub(crate) fn resolve(
    flags: &Flags,
    environment: &Environment,
    host: &Host,
    folder: &Path,
) -> Result<(Settings, bool)> {
    let mut given = flags.clone();
    // What an enrolment was given holds until something else is.
    if environment.env("MONSYS_CA_PIN").is_none() && given.ca_pin.is_none() {
        given.ca_pin.clone_from(&host.notes.ca_pin);
    }
    let own = |server: Option<String>| DialectSettings {
        hub_url: &SERVER_URL,
        hub_url_in_file: server,
        file: folder.join(NOTES),
        folder: folder.to_owned(),
        secrets: &[SECRET],
        secret_in_file: None,
    };
    let known = host.notes.server_url.clone();
    let has_server = known.is_some()
        || flags.hub_url.as_ref().is_some_and(|url| !url.is_empty())
        || SERVER_URL
            .variables
            .iter()
            .any(|name| environment.env(name).is_some());
    let server = known.or_else(|| Some(NO_SERVER.to_owned()));
    let mut settings = Settings::of_dialect(&given, environment, own(server))?;
    if settings.ca_file.is_none()
        && let Some(kept) = &host.notes.ca_file
    {
        let source = Source::Key("ca_file", folder.join(NOTES));
        refuse_control(kept, &source)?;
        // One that the operator had beside the host's tree is where it was.
        let below = Some(environment.resolved_path(kept)).filter(|path| path.exists());
        let path = below.unwrap_or_else(|| kept.clone());
        environment.refuse_foreign_file(&path)?;
        settings.ca_file = Some(CaFile::new(path, source));
    }
    Ok((settings, has_server))
}

/// Where key and certificates are, without `--root`.
pub(crate) fn folder(flags: &Flags, environment: &Environment) -> Result<PathBuf> {
    let (given, source) = match flags.state_dir.as_ref().filter(|dir| !dir.is_empty()) {
        Some(dir) => (PathBuf::from(dir), Source::Flag("--state-dir")),
        None => match environment.env(FOLDER) {
            Some(dir) => (PathBuf::from(dir), Source::Variable(FOLDER)),
            None => (PathBuf::from(DEFAULT_FOLDER), Source::Default),
        },
    };
    absolute_path(&given, &source)
}
