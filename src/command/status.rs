//! `monsys-agent status`.

use super::Report;
use crate::cli::PathArgs;
use crate::dialects;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};

/// Says whether this host is enrolled, where, and as what, and whether the hub hears from it.
/// Sends nothing.
///
/// # Errors
/// Broken files of the host.
pub(super) fn run(args: &PathArgs, environment: &Environment) -> Result<Report> {
    let flags = args.flags();
    let account = dialects::open(&flags, environment)
        .map_err(for_reading)?
        .status()?;
    Ok(Report {
        text: account.text,
        json: account.json,
        exit_code: account.exit_code,
        error: None,
    })
}

/// Nothing is written here, so what could not be replaced is only what could not be read.
fn for_reading(error: Error) -> Error {
    if error.id() != ErrorId::ConfigUnwritable {
        return error;
    }
    let subject = error.subject().unwrap_or_default().to_owned();
    Error::new(ErrorId::Unreadable, error.cause())
        .about(subject)
        .hint(error.next_step())
}
