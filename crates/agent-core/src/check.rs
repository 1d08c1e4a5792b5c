//! One check of `doctor`: what was inspected, the finding, and a hint.

use crate::error::Error;

/// The finding of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing is wrong.
    Good,
    /// An enrolment would succeed, but an operator should read this.
    Warning,
    /// An enrolment would fail.
    Bad,
    /// Not checked, because of another finding.
    Skipped,
}

impl Finding {
    /// Returns the stable word of `--output json`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
            Self::Skipped => "skipped",
        }
    }
}

/// One check.
#[derive(Debug)]
pub struct Check {
    /// The subject of the check.
    pub name: &'static str,
    /// The finding.
    pub finding: Finding,
    /// The finding in words.
    pub says: String,
    /// The fix of a problem.
    pub hint: Option<String>,
    /// Exit code that an enrolment would end with.
    pub exit_code: u8,
}

impl Check {
    fn new(name: &'static str, finding: Finding, says: impl Into<String>) -> Self {
        Self {
            name,
            finding,
            says: says.into(),
            hint: None,
            exit_code: 0,
        }
    }

    /// Returns a check that found nothing wrong.
    #[must_use]
    pub fn good(name: &'static str, says: impl Into<String>) -> Self {
        Self::new(name, Finding::Good, says)
    }

    /// Returns a check that another finding made pointless.
    #[must_use]
    pub fn skipped(name: &'static str, because: &str) -> Self {
        Self::new(name, Finding::Skipped, because)
    }

    /// Returns a check that found a problem which does not prevent an enrolment.
    #[must_use]
    pub fn warning(name: &'static str, says: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..Self::new(name, Finding::Warning, says)
        }
    }

    /// Returns a check that found the error which an enrolment would fail with.
    #[must_use]
    pub fn bad(name: &'static str, error: &Error) -> Self {
        Self {
            hint: Some(error.next_step().into()),
            exit_code: error.exit_code(),
            ..Self::new(
                name,
                Finding::Bad,
                format!("{}: {}", error.what(), error.cause()),
            )
        }
    }
}
