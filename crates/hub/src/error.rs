//! The error of a hub that cannot start.

use std::fmt;

/// The error of a hub that cannot start. Its text has three parts: what failed, the cause, and a
/// hint. The hint names a flag of the program, which is `--database` for [`Options::database`].
///
/// [`Options::database`]: crate::Options::database
#[derive(Debug)]
pub struct Error {
    what: String,
    cause: String,
    hint: &'static str,
}

impl Error {
    /// Makes an error. `what` is what the hub was doing, such as "listening on 127.0.0.1:80".
    pub fn new(what: impl Into<String>, cause: impl fmt::Display, hint: &'static str) -> Self {
        Self {
            what: what.into(),
            cause: cause.to_string(),
            hint,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, cause, hint } = self;
        write!(f, "{what} failed\n  cause: {cause}\n  hint:  {hint}")
    }
}

impl std::error::Error for Error {}
