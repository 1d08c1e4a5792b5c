//! The host of this dialect: its settings and its files.

use std::path::PathBuf;

use agent_core::enrolment::ReportField;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::settings::Settings;
use serde_json::json;

/// This host as a worker of a `LyftData` server.
pub(crate) struct Lyftdata<'a> {
    pub(crate) flags: &'a Flags,
    pub(crate) environment: &'a Environment,
    pub(crate) settings: Settings,
    /// A server is set, so that `settings` does not hold a placeholder.
    pub(crate) has_server: bool,
    pub(crate) jobs_dir: PathBuf,
    pub(crate) name: Option<String>,
    /// The worker's id to request. Without one, the server makes an id.
    pub(crate) worker: Option<String>,
}

impl Lyftdata<'_> {
    /// Returns the worker's name.
    ///
    /// # Errors
    /// [`ErrorId::BadSetting`] when no name is set.
    pub(crate) fn name(&self) -> Result<&str> {
        self.name.as_deref().ok_or_else(|| {
            Error::new(
                ErrorId::BadSetting,
                "a worker needs a unique name, and no name is set",
            )
            .about("the worker's name")
            .hint("set LYFTDATA_WORKER_NAME, or give --worker-name NAME")
        })
    }

    /// Returns the server's URL, if one is set.
    pub(crate) fn hub_url(&self) -> Option<String> {
        self.has_server
            .then(|| self.settings.hub_url.value.to_string())
    }

    /// Returns the fields of an enrolled worker for the report of a run.
    pub(crate) fn report_fields(&self, worker: &str, name: Option<&str>) -> Vec<ReportField> {
        [
            ("worker", "worker", json!(worker)),
            ("name", "name", json!(name)),
            ("jobs dir", "jobs_dir", json!(self.jobs_dir)),
        ]
        .map(|(label, key, value)| ReportField { label, key, value })
        .into()
    }
}

/// Returns the error of a worker without a credential and without a server.
pub(crate) fn no_server() -> Error {
    Error::new(ErrorId::BadHubUrl, "no URL is set, and there is no default")
        .hint("set one of: --hub-url, LYFTDATA_URL, MONSYS_HUB_URL")
}

/// Returns the error of a worker without a credential and without a secret.
pub(crate) fn no_secret() -> Error {
    Error::new(
        ErrorId::TokenMissing,
        "this worker is not enrolled, and the shared secret is what admits it",
    )
    .hint("set LYFTDATA_AUTO_ENROLLMENT_KEY, or use --token-file PATH, --token-file - or --token-command CMD")
}
