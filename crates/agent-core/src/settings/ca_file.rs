//! The private CA: a path, its source, and how it is read.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::error::{Error, ErrorId, Result};
use crate::sourced::Source;
use crate::store::named;

/// The CA file of the settings.
#[derive(Clone, Debug)]
pub struct CaFile {
    /// The path, with `--root`.
    pub value: PathBuf,
    /// The source of the path.
    pub source: Source,
    /// The content, once it was read: a pipe can be read only once, and a run may make several clients.
    content: Arc<OnceLock<Vec<u8>>>,
}

impl CaFile {
    /// Makes the setting from a path and its source, and reads nothing.
    #[must_use]
    pub fn new(value: PathBuf, source: Source) -> Self {
        Self {
            value,
            source,
            content: Arc::default(),
        }
    }

    /// Returns true when the path is a pipe, which can be read only once.
    #[must_use]
    pub fn is_pipe(&self) -> bool {
        named::is_pipe(&self.value)
    }

    /// Returns true when a configuration file can name the path. Logs a warning for a pipe, which the
    /// service would not find.
    pub fn can_be_named(&self) -> bool {
        let is_pipe = self.is_pipe();
        if is_pipe {
            tracing::warn!(
                "{} is a pipe, so it is not written to the configuration: the service needs the CA in a regular file; set --ca-file PATH",
                self.subject()
            );
        }
        !is_pipe
    }

    /// Reads a regular file; or a pipe that a flag or variable names, for `wait` at most. Reads it once in a
    /// run. Blocks: a command cannot connect before it knows its CA.
    ///
    /// # Errors
    /// [`ErrorId::Unreadable`].
    pub fn read(&self, wait: Duration) -> Result<Vec<u8>> {
        if let Some(bytes) = self.content.get() {
            return Ok(bytes.clone());
        }
        let bytes = if self.is_pipe() && self.source.is_explicit() {
            named::pipe(&self.value, clock::after(Instant::now(), wait))
                .map_err(|e| self.unreadable(&e))?
        } else {
            self.read_regular()?
        };
        Ok(self.content.get_or_init(|| bytes).clone())
    }

    /// Reads a regular file, for the service, which reads the file again later.
    ///
    /// # Errors
    /// [`ErrorId::Unreadable`].
    pub fn read_regular(&self) -> Result<Vec<u8>> {
        named::regular(&self.value).map_err(|error| self.unreadable(&error))
    }

    /// Returns the source and the path, for messages.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("{} {}", self.source, self.value.display())
    }

    fn unreadable(&self, error: &std::io::Error) -> Error {
        Error::new(ErrorId::Unreadable, error.to_string()).about(self.subject())
    }
}
