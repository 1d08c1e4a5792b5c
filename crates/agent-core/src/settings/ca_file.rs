//! The private CA: a path, its source, and how it is read.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::error::{Error, ErrorId, Result};
use crate::sourced::Source;
use crate::store::named;

/// The CA file that the settings name.
#[derive(Clone, Debug)]
pub struct CaFile {
    /// Where it is, `--root` included.
    pub value: PathBuf,
    /// Where the path came from.
    pub source: Source,
    /// What a pipe held: it can be read only once, and a run may make several clients.
    piped: Arc<OnceLock<Vec<u8>>>,
}

impl CaFile {
    /// The file at `value`.
    #[must_use]
    pub fn new(value: PathBuf, source: Source) -> Self {
        Self {
            value,
            source,
            piped: Arc::default(),
        }
    }

    /// Whether it is a pipe, which nobody can read again.
    #[must_use]
    pub fn is_pipe(&self) -> bool {
        named::is_pipe(&self.value)
    }

    /// Whether a configuration can name it. Says so where it cannot: the service would not find a pipe.
    pub fn can_be_named(&self) -> bool {
        let is_pipe = self.is_pipe();
        if is_pipe {
            tracing::warn!(
                "{} is a pipe, so the configuration does not name it: the service needs the CA in a file, named by --ca-file PATH",
                self.subject()
            );
        }
        !is_pipe
    }

    /// Reads a regular file; or a pipe that a flag or variable names, for `wait` at most. Blocks: a command
    /// has nothing else to do before it knows whom to trust.
    ///
    /// # Errors
    /// [`ErrorId::Unreadable`].
    pub fn read(&self, wait: Duration) -> Result<Vec<u8>> {
        if let Some(bytes) = self.piped.get() {
            return Ok(bytes.clone());
        }
        if !self.is_pipe() || !self.source.is_explicit() {
            return self.read_regular();
        }
        let bytes = named::pipe(&self.value, clock::after(Instant::now(), wait))
            .map_err(|e| self.fault(&e))?;
        Ok(self.piped.get_or_init(|| bytes).clone())
    }

    /// Reads a regular file, for what comes back to it: the service.
    ///
    /// # Errors
    /// [`ErrorId::Unreadable`].
    pub fn read_regular(&self) -> Result<Vec<u8>> {
        named::regular(&self.value).map_err(|error| self.fault(&error))
    }

    /// What is said about it: its source and its path.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("{} {}", self.source, self.value.display())
    }

    fn fault(&self, error: &std::io::Error) -> Error {
        Error::new(ErrorId::Unreadable, error.to_string()).about(self.subject())
    }
}
