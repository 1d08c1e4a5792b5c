//! The host of this dialect: its settings, and its files.

use std::path::PathBuf;

use agent_core::enrolment::ReportField;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::settings::Settings;
use serde_json::json;

/// This host, as a worker of a `LyftData` server.
pub(crate) struct Lyftdata<'a> {
    pub(crate) flags: &'a Flags,
    pub(crate) environment: &'a Environment,
    pub(crate) settings: Settings,
    pub(crate) jobs_dir: PathBuf,
    pub(crate) name: Option<String>,
    /// An id to ask for.
    pub(crate) worker: Option<String>,
}

impl Lyftdata<'_> {
    pub(crate) fn name(&self) -> Result<&str> {
        self.name.as_deref().ok_or_else(|| {
            Error::new(
                ErrorId::BadSetting,
                "a worker needs a unique name, and none is given",
            )
            .about("the worker's name")
            .hint("set LYFTDATA_WORKER_NAME, or give --worker-name NAME")
        })
    }

    pub(crate) fn held(&self, worker: &str, name: Option<&str>) -> Vec<ReportField> {
        [
            ("worker", "worker", json!(worker)),
            ("name", "name", json!(name)),
            ("jobs dir", "jobs_dir", json!(self.jobs_dir)),
        ]
        .map(|(label, key, value)| ReportField { label, key, value })
        .into()
    }
}

/// The exits of a worker that has nothing to begin with, as its troubleshooting table has them.
pub(crate) fn missing() -> Error {
    Error::new(
        ErrorId::TokenMissing,
        "this worker is not enrolled, and the shared secret is what admits it",
    )
    .hint("set LYFTDATA_AUTO_ENROLLMENT_KEY, or use --token-file PATH, --token-file - or --token-command CMD")
}
