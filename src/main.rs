//! Parse, run, print, exit code.

use std::io::Write;
use std::process::ExitCode;

use monsys_agent::cli::{Cli, OutputFormat, Stop};
use monsys_agent::command;
use monsys_agent::error::{Error, ErrorId, Result};
use monsys_agent::log;
use monsys_agent::redact::redact;
use monsys_agent::world::World;

#[expect(clippy::disallowed_methods, reason = "only main reads the arguments")]
fn main() -> ExitCode {
    let cli = match Cli::parse_from(std::env::args_os()) {
        Ok(cli) => cli,
        Err(Stop::Show(text)) => return exit(print(&text).map(|()| 0), OutputFormat::Text),
        Err(Stop::Refuse {
            text,
            error,
            output,
        }) => return fail(&error, &text, output),
    };
    log::start(&cli.global);
    let mut world = World::real().with_root(&cli.global.root);
    if let Some(progress) = log::progress(&cli.global) {
        world = world.with_progress(progress);
    }
    let result = command::run_blocking(&cli, &world);
    let output = cli.global.output;
    exit(
        result.and_then(|report| print(&report.render(output)).map(|()| report.exit_code)),
        output,
    )
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
        drop(print(&format!("{}\n", command::error_json(error))));
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
    drop(std::io::stderr().write_all(redact(text).as_bytes()));
}
