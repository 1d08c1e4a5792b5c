//! The only code that prints: the result on standard output, errors and warnings on standard error.

use std::io::Write;
use std::process::ExitCode;

use agent_core::error::{Error, ErrorId, Result};
use agent_core::escape;
use agent_core::redact::redact;

use crate::cli::{EarlyExit, OutputFormat};
use crate::command::{Report, error_json};

/// Prints the result of a command, and returns the exit code.
#[must_use]
pub fn finish(result: Result<Report>, format: OutputFormat) -> ExitCode {
    let printed = result.and_then(|report| {
        print(&report.render(format))?;
        if let Some(error) = &report.error {
            print_error(&message(error));
        }
        Ok(report.exit_code)
    });
    match printed {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error, format),
    }
}

/// Prints the text of the help, or the error in the arguments, and returns the exit code.
#[must_use]
pub fn early_exit(exit: &EarlyExit) -> ExitCode {
    match exit {
        EarlyExit::Help(text) => match print(text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, OutputFormat::Text),
        },
        EarlyExit::BadArguments {
            text,
            error,
            output,
        } => fail_with(error, text, *output),
    }
}

/// Prints an error, and returns its exit code.
#[must_use]
pub fn fail(error: &Error, format: OutputFormat) -> ExitCode {
    fail_with(error, &message(error), format)
}

/// Prints text on standard error, without secrets and control characters.
#[expect(clippy::disallowed_methods, reason = "only this module prints")]
pub fn print_error(text: &str) {
    // A failed write to standard error cannot be reported anywhere.
    drop(std::io::stderr().write_all(escape::lines(&redact(text)).as_bytes()));
}

fn fail_with(error: &Error, text: &str, format: OutputFormat) -> ExitCode {
    if format == OutputFormat::Json {
        let json = error_json(error).to_string();
        // The exit code reports the failure even if standard output is closed.
        drop(print(&format!("{}\n", escape::json(&json))));
    }
    print_error(text);
    ExitCode::from(error.exit_code())
}

fn message(error: &Error) -> String {
    format!("error: {error}\n")
}

#[expect(clippy::disallowed_methods, reason = "only this module prints")]
fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Error::new(ErrorId::Output, error.to_string()))
}
