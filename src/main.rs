//! Parses the arguments, runs the command, prints its result, and returns the exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use agent_core::environment::Environment;
use dlmalloc::GlobalDlmalloc;
use monsys_agent::cli::{Cli, OutputFormat, secret_argument};
use monsys_agent::{command, core_dump, dialects, log, output};

/// The allocator of musl calls the kernel so often that a quarter of all system calls of an enrolment
/// are its own (docs/performance.md).
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

#[expect(clippy::disallowed_methods, reason = "only main reads the arguments")]
fn main() -> ExitCode {
    // The environment may contain a secret already.
    core_dump::prevent();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(cleaned) = secret_argument::remove_secret(&arguments) {
        output::print_error(&cleaned.warning());
        return output::fail(&cleaned.execute_again(), OutputFormat::Text);
    }
    let cli = match Cli::parse_from(arguments.iter().cloned()) {
        Ok(cli) => cli,
        Err(exit) => return output::early_exit(&exit),
    };
    log::start(&cli.global);
    let mut environment = Environment::real(dialects::secret_variables())
        .with_root(&cli.global.root)
        .with_arguments(arguments);
    if let Some(progress) = log::progress(&cli.global) {
        environment = environment.with_progress(progress);
    }
    let result = command::run_blocking(&cli, &environment);
    output::finish(result, cli.global.output)
}
