//! `monsys-agent status`.

use super::Report;
use crate::cli::PathArgs;
use crate::dialects;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};

/// Reports the enrolment of this host, and the state of its heartbeats. Sends nothing.
///
/// # Errors
/// Those of files that cannot be read.
pub(super) fn run(args: &PathArgs, environment: &Environment) -> Result<Report> {
    let flags = args.flags();
    let status = dialects::open(&flags, environment)
        .map_err(for_reading)?
        .status()?;
    Ok(Report {
        text: status.text,
        json: status.json,
        exit_code: status.exit_code,
        error: None,
    })
}

/// Turns a file that cannot be replaced into one that cannot be read, because `status` writes nothing.
fn for_reading(error: Error) -> Error {
    if error.id() != ErrorId::ConfigUnwritable {
        return error;
    }
    let subject = error.subject().unwrap_or_default().to_owned();
    Error::new(ErrorId::Unreadable, error.cause())
        .about(subject)
        .hint(error.next_step())
}
