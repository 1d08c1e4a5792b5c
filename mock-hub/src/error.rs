//! Why a hub could not start: what failed, why, and what to do next.

use std::fmt;

/// A failure at start. Its text says what failed, why, and what to do next.
#[derive(Debug)]
pub struct Error {
    what: String,
    cause: String,
    next: &'static str,
}

impl Error {
    pub(crate) fn new(
        what: impl Into<String>,
        cause: impl fmt::Display,
        next: &'static str,
    ) -> Self {
        Self {
            what: what.into(),
            cause: cause.to_string(),
            next,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, cause, next } = self;
        write!(f, "{what}: {cause}\n  {next}")
    }
}

impl std::error::Error for Error {}
