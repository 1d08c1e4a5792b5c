//! Parse, run, print, exit code.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::escape;
use agent_core::redact::redact;
use dlmalloc::GlobalDlmalloc;
use monsys_agent::cli::secret_argument::{self, TakenOut};
use monsys_agent::cli::{Cli, OutputFormat, Stop};
use monsys_agent::command;
use monsys_agent::core_dump;
use monsys_agent::dialects;
use monsys_agent::log;

/// musl's allocator maps and unmaps pages at every turn: a quarter of all system calls of an
/// enrolment (docs/performance.md).
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

#[expect(clippy::disallowed_methods, reason = "only main reads the arguments")]
fn main() -> ExitCode {
    // The environment may hold a secret already.
    core_dump::prevent();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(taken_out) = secret_argument::take_out(&arguments) {
        return run_again(&taken_out);
    }
    let cli = match Cli::parse_from(arguments.iter().cloned()) {
        Ok(cli) => cli,
        Err(Stop::Show(text)) => return exit(print(&text).map(|()| 0), OutputFormat::Text),
        Err(Stop::Refuse {
            text,
            error,
            output,
        }) => return fail(&error, &text, output),
    };
    log::start(&cli.global);
    let mut environment = Environment::real(dialects::secret_variables())
        .with_root(&cli.global.root)
        .with_arguments(arguments);
    if let Some(progress) = log::progress(&cli.global) {
        environment = environment.with_progress(progress);
    }
    let result = command::run_blocking(&cli, &environment);
    let output = cli.global.output;
    exit(
        result.and_then(|report| {
            print(&report.render(output))?;
            if let Some(error) = &report.error {
                complain(&format!("error: {error}\n"));
            }
            Ok(report.exit_code)
        }),
        output,
    )
}

/// Replaces this process by itself, without the secret among its arguments.
fn run_again(taken_out: &TakenOut) -> ExitCode {
    complain(&taken_out.warning());
    let mut arguments = taken_out.arguments.iter();
    let mut again = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    again
        .args(arguments)
        .envs(taken_out.variables.iter().cloned());
    let cause = format!("it could not be taken out of them: {}", again.exec());
    let error = Error::new(ErrorId::TokenOnCommandLine, cause).about(taken_out.flag);
    fail(&error, &format!("error: {error}\n"), OutputFormat::Text)
}

fn exit(result: Result<u8>, output: OutputFormat) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error, &format!("error: {error}\n"), output),
    }
}

fn fail(error: &Error, text: &str, output: OutputFormat) -> ExitCode {
    if output == OutputFormat::Json {
        // The exit code tells it even when nobody reads this.
        let json = command::error_json(error).to_string();
        drop(print(&format!("{}\n", escape::json(&json))));
    }
    complain(text);
    ExitCode::from(error.exit_code())
}

#[expect(clippy::disallowed_methods, reason = "only main prints")]
fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Error::new(ErrorId::Output, error.to_string()))
}

#[expect(clippy::disallowed_methods, reason = "only main prints")]
fn complain(text: &str) {
    // Nobody is left to tell when standard error is gone.
    drop(std::io::stderr().write_all(escape::lines(&redact(text)).as_bytes()));
}
