//! A value together with its source, for messages that name where a wrong value was given.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from, for messages that name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A flag, with its dashes.
    Flag(&'static str),
    /// An environment variable.
    Variable(&'static str),
    /// A key of `agent.toml`.
    Key(&'static str, PathBuf),
    /// The built-in default.
    Default,
}

impl Source {
    /// Whether this very run asked for it, by flag or environment.
    #[must_use]
    pub fn is_explicit(&self) -> bool {
        matches!(self, Self::Flag(_) | Self::Variable(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::Key(key, path) => write!(f, "`{key}` in {}", path.display()),
            Self::Default => f.write_str("the built-in default"),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub source: Source,
}
