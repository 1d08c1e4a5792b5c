//! Why a command or a suite stopped.

use std::fmt::{self, Display};

/// What every step returns.
pub(crate) type Result<T> = std::result::Result<T, Stop>;

/// Why a step stopped, in words for the person who started it.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It ran, and something is wrong.
    Failed(String),
    /// It could not run on this machine: a tool is missing and could not be had.
    Missing(String),
    /// It ran, something is wrong, and all about it has been printed.
    Told,
}

impl Stop {
    pub(crate) fn failed(cause: impl Into<String>) -> Self {
        Self::Failed(cause.into())
    }

    pub(crate) fn missing(cause: impl Into<String>) -> Self {
        Self::Missing(cause.into())
    }
}

impl Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(cause) | Self::Missing(cause) => f.write_str(cause),
            Self::Told => f.write_str("see above"),
        }
    }
}

/// Says what was being done when an error came.
pub(crate) trait Context<T> {
    /// Turns the error into [`Stop::Failed`], led by `what` could not be done.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Stop::Failed(format!("{}: {error}", what())))
    }
}
