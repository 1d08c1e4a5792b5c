//! A value together with its source, so that a message about a wrong value can name the source.

use std::fmt;
use std::path::PathBuf;

/// The source of a value, as messages name it.
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
    /// Returns whether the source belongs to this run: a flag or an environment variable.
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

/// A value and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// The source of the value.
    pub source: Source,
}
