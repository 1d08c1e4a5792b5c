//! The reasons why a command or a suite stops.

use std::fmt::{self, Display};

/// The result of every step.
pub type Result<T> = std::result::Result<T, Stop>;

/// The reason why a step stopped, in words for the person who started it.
#[derive(Debug)]
pub enum Stop {
    /// It ran, and something is wrong.
    Failed(String),
    /// It could not run on this machine: a tool is missing and could not be installed.
    Missing(String),
    /// It ran, something is wrong, and all about it has been printed.
    Printed,
}

impl Stop {
    /// A step that ran and failed.
    pub fn failed(cause: impl Into<String>) -> Self {
        Self::Failed(cause.into())
    }

    /// A step that could not run.
    pub fn missing(cause: impl Into<String>) -> Self {
        Self::Missing(cause.into())
    }

    #[allow(
        clippy::print_stderr,
        reason = "the only place where an error is printed"
    )]
    pub(crate) fn print(&self) {
        if !matches!(self, Self::Printed) {
            eprintln!("\nerror: {self}");
        }
    }
}

impl Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(cause) | Self::Missing(cause) => f.write_str(cause),
            Self::Printed => f.write_str("see above"),
        }
    }
}

/// Adds to an error what was being done.
pub trait Context<T> {
    /// Turns the error into [`Stop::Failed`], with `what` in front.
    ///
    /// # Errors
    /// The error itself.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Stop::Failed(format!("{}: {error}", what())))
    }
}
