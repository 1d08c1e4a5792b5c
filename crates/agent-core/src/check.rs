//! One check of `doctor`: what was inspected, the finding, and a hint.

use crate::error::Error;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// As it should be.
    Good,
    /// An enrolment can go on, but somebody should know.
    Warning,
    /// An enrolment would fail.
    Bad,
    /// Not looked at, because of another finding.
    Skipped,
}

impl Finding {
    /// Stable word, as in `--output json`.
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
    /// What was looked at.
    pub name: &'static str,
    /// What was found.
    pub finding: Finding,
    /// The finding in words.
    pub says: String,
    /// How to fix it.
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

    /// Returns a check that found what an enrolment can go on with.
    #[must_use]
    pub fn warning(name: &'static str, says: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..Self::new(name, Finding::Warning, says)
        }
    }

    /// Returns a check that found what an enrolment would fail with.
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
