//! The commands of the operating system: found in fixed folders, run with a clean environment and a time
//! limit. No argument is a secret.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::redact::redact;

/// The folders of programs. `PATH` is ignored, so that no user selects a program that root runs.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// The time limit of a command. The longest one waits until the service is up.
const TIME_LIMIT: Duration = Duration::from_mins(2);

/// The commands of the operating system that runs the host.
pub(super) struct SystemCommands<'a>(&'a Environment);

/// The result of a command.
pub(super) struct CommandOutput {
    /// True for exit code 0.
    pub(super) success: bool,
    /// The standard output.
    pub(super) stdout: String,
    /// The exit status, and the last line of standard error.
    pub(super) cause: String,
}

impl<'a> SystemCommands<'a> {
    pub(super) fn of(environment: &'a Environment) -> Self {
        Self(environment)
    }

    /// Returns true if the program exists. With `--root` it never does, because that host is not running.
    pub(super) fn has(&self, program: &str) -> bool {
        self.find(program).is_some()
    }

    fn find(&self, program: &str) -> Option<PathBuf> {
        self.0.is_live().then_some(())?;
        FOLDERS
            .iter()
            .map(|folder| PathBuf::from(folder).join(program))
            .find(|path| path.is_file())
    }

    /// Runs a command that has to succeed.
    ///
    /// # Errors
    /// [`ErrorId::SystemCommand`].
    pub(super) async fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let output = self.output(program, arguments).await?;
        if output.success {
            return Ok(());
        }
        Err(failed(program, arguments, output.cause))
    }

    /// Runs a command, and returns its output for any exit code.
    ///
    /// # Errors
    /// [`ErrorId::SystemCommand`] if the command cannot be started, or exceeds its time limit.
    pub(super) async fn output(&self, program: &str, arguments: &[&str]) -> Result<CommandOutput> {
        let failure = |cause: String| failed(program, arguments, cause);
        let path = self
            .find(program)
            .ok_or_else(|| failure("the program does not exist".into()))?;
        tracing::debug!("running {}", command_line(program, arguments));
        let child = tokio::process::Command::new(path)
            .args(arguments)
            .env_clear()
            .env("PATH", FOLDERS.join(":"))
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failure(error.to_string()))?;
        let output = tokio::time::timeout(TIME_LIMIT, child.wait_with_output())
            .await
            .map_err(|_| failure(format!("it did not end within {} s", TIME_LIMIT.as_secs())))?
            .map_err(|error| failure(error.to_string()))?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.trim().lines().last().unwrap_or_default();
        let cause = if last.is_empty() {
            output.status.to_string()
        } else {
            format!("{}; its output ends with: {}", output.status, redact(last))
        };
        Ok(CommandOutput {
            success: output.status.success(),
            stdout,
            cause,
        })
    }
}

fn failed(program: &str, arguments: &[&str], cause: String) -> Error {
    Error::new(ErrorId::SystemCommand, cause).about(command_line(program, arguments))
}

fn command_line(program: &str, arguments: &[&str]) -> String {
    [&[program], arguments].concat().join(" ")
}
