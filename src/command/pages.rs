//! The completion scripts and the manual pages. `cargo xtask docs` generates them from the command line: packed, they
//! are smaller than the code that generates them.

use std::io::Read;

use flate2::bufread::GzDecoder;

use agent_core::error::{Error, ErrorId, Result};

/// Name and text of each page in turn, each followed by a NUL.
const PACKED: &[u8] = include_bytes!("pages.gz");

/// A completion script, or a page of the manual.
pub(super) struct Page {
    /// The name of the shell, or of the file.
    pub(super) name: String,
    /// The content.
    pub(super) text: String,
}

/// Returns the completion scripts, and then the pages of the manual, the page of the program first.
///
/// # Errors
/// [`ErrorId::Internal`] for a file of pages that cannot be unpacked.
pub(super) fn all() -> Result<Vec<Page>> {
    let mut text = String::new();
    GzDecoder::new(PACKED)
        .read_to_string(&mut text)
        .map_err(|error| Error::new(ErrorId::Internal, error.to_string()))?;
    let mut parts = text.split_terminator('\0').map(str::to_owned);
    let next = || {
        Some(Page {
            name: parts.next()?,
            text: parts.next()?,
        })
    };
    Ok(std::iter::from_fn(next).collect())
}
