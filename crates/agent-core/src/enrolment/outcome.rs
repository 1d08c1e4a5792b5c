//! The outcome of an enrolment, as the commands report it.

use serde_json::Value;

use super::secret_cleanup::Cleanup;

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
    /// The fields of the enrolled host.
    pub fields: Vec<ReportField>,
    /// The result of scrubbing the secret from cloud-init's files.
    pub cleanup: Cleanup,
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
    /// The host is enrolled already; nothing was sent.
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
            Self::AlreadyEnrolled => "already_enrolled",
        }
    }
}
