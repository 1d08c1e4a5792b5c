//! The outcome of an enrolment, as the commands report it.

use serde_json::Value;

use super::secret_cleanup::Cleanup;

/// What an enrolment came to.
#[derive(Debug)]
pub struct Enrolment {
    /// What was done.
    pub done: Done,
    /// The hub.
    pub hub_url: String,
    /// Host name that the hub was told, when it was told.
    pub hostname: Option<String>,
    /// Whether anything on the host was written.
    pub changed: bool,
    /// What the host has of it now.
    pub fields: Vec<ReportField>,
    /// What came of the traces of the secret in cloud-init's files.
    pub cleanup: Cleanup,
}

/// One thing that an enrolled host has, such as its id.
#[derive(Debug)]
pub struct ReportField {
    /// Its name for people.
    pub label: &'static str,
    /// Its key in `--output json`.
    pub key: &'static str,
    /// A text, a list of texts, or nothing.
    pub value: Value,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// A new agent.
    Enrolled,
    /// The hub knew this host's key: the same agent, with a fresh credential.
    Recovered,
    /// A credential of its own that the host was given was confirmed by the hub.
    Registered,
    /// What the hub knows of the host was changed with the host's own credential.
    Updated,
    /// Nothing had to be done; nothing was sent.
    AlreadyEnrolled,
}

impl Done {
    /// Stable word, as in `--output json`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Recovered => "recovered",
            Self::Registered => "registered",
            Self::Updated => "updated",
            Self::AlreadyEnrolled => "already_enrolled",
        }
    }
}
