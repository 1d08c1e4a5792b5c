//! Why a hub could not start: what failed, why, and what to do next.

use std::fmt;

/// A failure at start. Its text says what failed, why, and what to do next.
#[derive(Debug)]
pub struct Error {
    what: String,
    why: String,
    next: &'static str,
}

impl Error {
    pub(crate) fn new(what: impl Into<String>, why: impl fmt::Display, next: &'static str) -> Self {
        Self {
            what: what.into(),
            why: why.to_string(),
            next,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, why, next } = self;
        write!(f, "{what}: {why}\n  {next}")
    }
}

impl std::error::Error for Error {}
