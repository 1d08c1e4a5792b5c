//! The outcome of an enrolment, as the commands report it.

use std::path::PathBuf;

use serde_json::Value;

use crate::cloud_init::Unsearched;
use crate::error::{Error, ErrorId};
use crate::scrub::Remaining;

/// The result of an enrolment.
#[derive(Debug)]
pub struct Enrolment {
    /// The kind of the result.
    pub done: Done,
    /// The hub's URL.
    pub hub_url: String,
    /// Host name that was sent to the hub, if it was sent.
    pub hostname: Option<String>,
    /// True when a file on the host was written.
    pub changed: bool,
    /// The hub's confirmation of the enrolment in this run.
    pub confirmation: Confirmation,
    /// The settings of an enrolled host that this run has changed.
    pub changes: Vec<ChangedSetting>,
    /// The fields of the enrolled host.
    pub fields: Vec<ReportField>,
    /// The result of scrubbing the secret from cloud-init's files.
    pub cleanup: Cleanup,
}

/// The hub's confirmation of an enrolment.
#[derive(Debug)]
pub enum Confirmation {
    /// The hub has confirmed the enrolment in this run.
    Confirmed,
    /// The user asked for no confirmation.
    NotRequested,
    /// The dialect's hub has no call that confirms an enrolment.
    NotAvailable,
    /// The hub did not answer, and nothing was to be changed.
    NoAnswer(Error),
}

impl Confirmation {
    /// Returns whether the hub has confirmed the enrolment in this run.
    #[must_use]
    pub const fn is_given(&self) -> bool {
        matches!(self, Self::Confirmed)
    }
}

/// A setting of an enrolled host that a run has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedSetting {
    /// The setting's key, as in agent.toml.
    pub setting: &'static str,
    /// The change, for people: `tags removed: a, b`.
    pub text: String,
}

/// A field of an enrolled host, such as its id.
#[derive(Debug)]
pub struct ReportField {
    /// The field's name for people.
    pub label: &'static str,
    /// The field's key in `--output json`.
    pub key: &'static str,
    /// The value: a text, a list of texts, or null.
    pub value: Value,
}

/// The kind of an enrolment's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// The hub has a new agent.
    Enrolled,
    /// The hub knew this host's key: the same agent got a new credential.
    Recovered,
    /// The hub confirmed the per-agent credential that the host was set up with.
    Registered,
    /// The hub's data about the host was changed with the host's own credential.
    Updated,
    /// The hub had forgotten this host, and took the same agent back by its receipt.
    Readmitted,
    /// The host is enrolled already, and nothing was to be changed.
    AlreadyEnrolled,
}

impl Done {
    /// Returns the stable word of `--output json`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Recovered => "recovered",
            Self::Registered => "registered",
            Self::Updated => "updated",
            Self::Readmitted => "readmitted",
            Self::AlreadyEnrolled => "already_enrolled",
        }
    }
}

/// The result of the secret cleanup.
#[derive(Clone, Debug, Default)]
pub struct Cleanup {
    /// Files from which the secret was removed.
    pub scrubbed: Vec<PathBuf>,
    /// Files and folders that may still hold it.
    pub left: Vec<Remaining>,
    /// Places that were not searched, since they are not ours to edit.
    pub unsearched: Vec<Unsearched>,
}

impl Cleanup {
    /// Returns the error about files that may still hold the secret. A run ends with it after all other work.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        left_behind(&self.left)
    }
}

/// Returns an error that names the files which may still hold the secret.
pub(super) fn left_behind(left: &[Remaining]) -> Option<Error> {
    let files: Vec<String> = left
        .iter()
        .map(|left| format!("{} ({})", left.path.display(), left.cause))
        .collect();
    (!files.is_empty()).then(|| Error::new(ErrorId::TokenLeftBehind, files.join(", ")))
}
