//! The commands of the system: found in fixed folders, with nothing of our environment, and bounded
//! in time. No secret is ever among their arguments.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::redact::redact;

/// Where programs are looked for; no PATH that somebody set has a say in what root runs.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// How long a command may take. The longest one waits until the service is up.
const PATIENCE: Duration = Duration::from_mins(2);

/// The system's commands, as far as there are any.
pub(super) struct System<'a>(&'a Environment);

/// What a command came to.
pub(super) struct Said {
    /// It exited with 0.
    pub(super) success: bool,
    /// Its standard output.
    pub(super) stdout: String,
    /// How it ended, and its last words.
    pub(super) cause: String,
}

impl<'a> System<'a> {
    pub(super) fn of(environment: &'a Environment) -> Self {
        Self(environment)
    }

    /// Whether there is such a program. Below `--root` there is none: the host does not run.
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
        let said = self.ask(program, arguments).await?;
        if said.success {
            return Ok(());
        }
        Err(fault(program, arguments, said.cause))
    }

    /// Runs a command, however it ends.
    ///
    /// # Errors
    /// [`ErrorId::SystemCommand`] when it could not be started or did not end.
    pub(super) async fn ask(&self, program: &str, arguments: &[&str]) -> Result<Said> {
        let fault = |cause: String| fault(program, arguments, cause);
        let path = self
            .find(program)
            .ok_or_else(|| fault("there is no such program".into()))?;
        tracing::debug!("running {}", line(program, arguments));
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
            .map_err(|error| fault(error.to_string()))?;
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
            .await
            .map_err(|_| fault(format!("it did not end within {} s", PATIENCE.as_secs())))?
            .map_err(|error| fault(error.to_string()))?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.trim().lines().last().unwrap_or_default();
        let cause = if last.is_empty() {
            output.status.to_string()
        } else {
            format!("{}; it said: {}", output.status, redact(last))
        };
        Ok(Said {
            success: output.status.success(),
            stdout,
            cause,
        })
    }
}

fn fault(program: &str, arguments: &[&str], cause: String) -> Error {
    Error::new(ErrorId::SystemCommand, cause).about(line(program, arguments))
}

fn line(program: &str, arguments: &[&str]) -> String {
    [&[program], arguments].concat().join(" ")
}
