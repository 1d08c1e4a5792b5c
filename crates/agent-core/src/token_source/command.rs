//! One run of a token command.

use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use crate::environment::Environment;
use crate::redact::last_words;

/// Limit for storing the output of a command, in bytes.
const OUTPUT_LIMIT: usize = 4096;
/// Time limit for a command's pipes to close after the end of the command.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Exit statuses of a shell that cannot start a program: POSIX, "Exit Status for Commands".
const NO_PROGRAM: [i32; 2] = [126, 127];

/// A token command that gave no token.
pub(super) enum CommandFailure {
    /// The shell did not start.
    NotStarted(String),
    /// The shell did not find the program, or could not execute it.
    NoProgram(String),
    /// It ended with an error.
    Failed(String),
    /// It did not end in time.
    TimedOut,
}

/// Runs `command`, until `end` at the latest. Returns its output.
pub(super) async fn run(
    command: &str,
    environment: &Environment,
    end: Instant,
) -> Result<Zeroizing<Vec<u8>>, CommandFailure> {
    let mut child = tokio::process::Command::new("/bin/sh")
        .args(["-c", command])
        .env_clear()
        .envs(environment.child_environment())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            CommandFailure::NotStarted(format!("/bin/sh could not be started: {error}"))
        })?;
    let group = child.id();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut output, mut errors) = (buffer(), buffer());
    let ended = async {
        let mut pipes =
            pin!(async { tokio::join!(drain(stdout, &mut output), drain(stderr, &mut errors)) });
        let mut status_first = None;
        tokio::select! {
            _ = &mut pipes => {}
            status = child.wait() => {
                status_first = Some(status);
                // A background process of the command may keep the pipes open.
                drop(tokio::time::timeout(LAST_WORDS, &mut pipes).await);
            }
        }
        match status_first {
            Some(status) => status,
            None => child.wait().await,
        }
    };
    let Ok(status) = timeout_at(end, ended).await else {
        end_group(group);
        return Err(CommandFailure::TimedOut);
    };
    let status = status.map_err(|error| CommandFailure::Failed(error.to_string()))?;
    if status.success() {
        return Ok(output);
    }
    let cause = match last_words(&errors, &output) {
        Some(said) => format!("{status}; it said: {said:?}"),
        None => format!("{status}; it said nothing on its standard error"),
    };
    Err(match status.code() {
        Some(code) if NO_PROGRAM.contains(&code) => CommandFailure::NoProgram(cause),
        _ => CommandFailure::Failed(cause),
    })
}

/// Ends the shell and its child processes, by their process group.
fn end_group(leader: Option<u32>) {
    if let Some(leader) = leader.and_then(|pid| i32::try_from(pid).ok()) {
        // The group may have ended by itself.
        let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
    }
}

/// Returns a buffer of the full size: a buffer that grows would leave a copy of the secret in memory.
fn buffer() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(OUTPUT_LIMIT))
}

/// Reads a pipe to its end, so that the child process never blocks, and stores the beginning.
async fn drain(pipe: Option<impl tokio::io::AsyncRead + Unpin>, output: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut chunk = Zeroizing::new([0_u8; 1024]);
    while let Ok(length @ 1..) = pipe.read(chunk.as_mut_slice()).await {
        let room = OUTPUT_LIMIT.saturating_sub(output.len());
        output.extend_from_slice(&chunk[..length.min(room)]);
    }
}
