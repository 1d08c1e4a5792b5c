//! The host: its settings, and its credential file.

use std::io::ErrorKind::NotFound;
use std::path::PathBuf;

use agent_core::enrolment::ReportField;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::settings::{DialectSettings, Setting, Settings};
use agent_core::store::{safe_read, unreadable};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Environment variable of the secret.
pub(crate) const SECRET: &str = "EXAMPLE_SECRET";
/// Environment variable of the server.
pub(crate) const SERVER: &str = "EXAMPLE_SERVER";

static SERVER_SETTING: Setting = Setting {
    name: "server",
    flag: Some("--hub-url"),
    variables: &[SERVER],
    key: None,
    default: None,
    help: "The URL of the server.",
};
static SECRET_SETTING: Setting = Setting {
    name: "secret",
    flag: None,
    variables: &[SECRET],
    key: None,
    default: None,
    help: "The bearer secret. `--token-file` and `--token-command` give it as well.",
};
static FILE_SETTING: Setting = Setting {
    name: "credential file",
    flag: None,
    variables: &["EXAMPLE_FILE"],
    key: None,
    default: Some("/etc/example/token.json"),
    help: "The file of the token.",
};

/// The settings that only this dialect has.
pub(crate) static SETTINGS: &[&Setting] = &[&SERVER_SETTING, &SECRET_SETTING, &FILE_SETTING];

/// The credential file.
#[derive(Serialize, Deserialize)]
pub(crate) struct Credential {
    /// The server that issued the token.
    pub(crate) server: String,
    /// The token.
    pub(crate) token: String,
}

/// This host, as one run reads it.
pub(crate) struct Host<'a> {
    pub(crate) flags: &'a Flags,
    pub(crate) environment: &'a Environment,
    pub(crate) settings: Settings,
    /// The credential file, `--root` included.
    pub(crate) path: PathBuf,
    pub(crate) credential: Option<Credential>,
}

impl<'a> Host<'a> {
    /// Reads the settings and the credential file.
    ///
    /// # Errors
    /// Wrong settings, and a file that is unreadable or broken.
    pub(crate) fn read(flags: &'a Flags, environment: &'a Environment) -> Result<Self> {
        let file = FILE_SETTING.resolve_path(None, environment)?;
        let folder = file.parent().unwrap_or(&file).to_owned();
        let own = DialectSettings {
            hub_url: &SERVER_SETTING,
            hub_url_in_file: None,
            file: file.clone(),
            folder,
            secrets: &[SECRET],
            secret_in_file: None,
        };
        let settings = Settings::of_dialect(flags, environment, own)?;
        let path = environment.path(&file);
        let credential = match safe_read::own(&path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).map_err(|cause| {
                Error::new(ErrorId::ConfigBroken, cause.to_string()).about(path.display())
            })?),
            Err(error) if error.kind() == NotFound => None,
            Err(error) => return Err(unreadable(&path, &error)),
        };
        Ok(Self {
            flags,
            environment,
            settings,
            path,
            credential,
        })
    }

    /// Returns what an enrolled host has, for the report.
    pub(crate) fn fields(&self) -> Vec<ReportField> {
        vec![ReportField {
            label: "file",
            key: "file",
            value: json!(self.path),
        }]
    }
}

/// The host is not enrolled, and the run was given no secret.
pub(crate) fn no_secret() -> Error {
    Error::new(ErrorId::TokenMissing, "this host has no token yet").hint(format!(
        "set {SECRET}, or use --token-file PATH, --token-file - or --token-command CMD"
    ))
}
