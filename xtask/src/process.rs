//! Child processes: each in a process group of its own, ended by its own id, never left behind.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Context, Result, Stop};

/// The longest time from SIGTERM to the end of a child.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `command` with our output as its own; an error unless it exits 0.
pub async fn run(command: &mut Command) -> Result<()> {
    let name = name(command);
    let status = Running::spawn(command)?.wait().await?;
    succeeded(&name, status)
}

/// Runs `command`, and shows each line of its standard output to `look`.
pub async fn watch(command: &mut Command, mut look: impl FnMut(&str)) -> Result<ExitStatus> {
    let name = name(command);
    let mut running = Running::spawn(command.stdout(Stdio::piped()))?;
    let mut lines = running.lines()?;
    while let Some(line) = next_line(&name, &mut lines).await? {
        look(&line);
    }
    running.wait().await
}

/// A child's output and end.
pub struct Output {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Returns all its output: its log first, its result last.
    pub fn text(&self) -> String {
        format!("{}{}", self.stderr, self.stdout)
    }
}

/// Runs `command` and returns its output. Its exit status is for the caller to check.
pub async fn capture(command: &mut Command) -> Result<Output> {
    let name = name(command);
    let mut running = Running::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let mut out = piped(running.child.stdout.take(), &name)?;
    let mut err = piped(running.child.stderr.take(), &name)?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    tokio::try_join!(out.read_to_end(&mut stdout), err.read_to_end(&mut stderr))
        .context(|| format!("could not read the output of {name}"))?;
    Ok(Output {
        status: running.wait().await?,
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

/// Returns the standard output of `command`; an error with all its output unless it exits 0.
pub async fn stdout_of(command: &mut Command) -> Result<String> {
    let output = capture(command).await?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let (name, status) = (name(command), output.status);
    Err(Stop::failed(format!("{name}: {status}\n{}", output.text())))
}

/// Returns whether `command` exits 0. Its output is not shown.
pub async fn succeeds(command: &mut Command) -> bool {
    capture(command).await.is_ok_and(|ran| ran.status.success())
}

/// A child that runs beside us. Dropping it ends its process group.
pub struct Running {
    child: Child,
    name: String,
    /// The signal of a drop.
    last: Signal,
}

impl Running {
    /// Starts `command` with no standard input. Dropping it kills it.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let name = name(command);
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .context(|| format!("could not start {name}"))?;
        Ok(Self {
            child,
            name,
            last: Signal::SIGKILL,
        })
    }

    /// Lets a drop end it by SIGTERM, so that it can end its own children.
    #[must_use]
    pub fn ends_its_children(mut self) -> Self {
        self.last = Signal::SIGTERM;
        self
    }

    /// Returns the lines of its standard output, which must have been piped.
    pub fn lines(&mut self) -> Result<Lines<BufReader<ChildStdout>>> {
        let stdout = piped(self.child.stdout.take(), &self.name)?;
        Ok(BufReader::new(stdout).lines())
    }

    /// Waits until it ends by itself.
    pub async fn wait(mut self) -> Result<ExitStatus> {
        self.child
            .wait()
            .await
            .context(|| format!("could not wait for {}", self.name))
    }

    /// Waits until it ends by itself, and kills it when that takes longer than `time`: `None`.
    pub async fn wait_or_kill(mut self, time: Duration) -> Result<Option<ExitStatus>> {
        let what = || format!("could not wait for {}", self.name);
        if let Ok(status) = tokio::time::timeout(time, self.child.wait()).await {
            return status.map(Some).context(what);
        }
        self.signal(Signal::SIGKILL);
        let status = self.child.wait().await.context(what)?;
        // It may have ended by itself in between.
        Ok(status.code().map(|_| status))
    }

    /// Ends it by SIGTERM; an error if it does not obey.
    pub async fn terminate(mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM);
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.context(|| format!("could not wait for {}", self.name)),
            Err(_) => Err(Stop::failed(format!(
                "{} did not end within {PATIENCE:?} of SIGTERM, and was killed",
                self.name
            ))),
        }
    }

    /// Signals the group that it leads; nothing once it has been waited for.
    fn signal(&self, signal: Signal) {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // The only error is that it has just ended.
            let _ = killpg(Pid::from_raw(id), signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(self.last);
    }
}

/// Waits for Ctrl-C or SIGTERM: the reason to stop.
pub(crate) async fn interrupted() -> Stop {
    match interruption().await {
        Ok(which) => Stop::failed(format!("stopped by {which}; all children were ended")),
        Err(cannot_listen) => cannot_listen,
    }
}

async fn interruption() -> Result<&'static str> {
    let listen = |kind| signal(kind).context(|| "could not listen for signals".to_owned());
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => "Ctrl-C",
        _ = terminate.recv() => "SIGTERM",
    })
}

/// Returns an error that names the command unless `status` is 0.
pub fn succeeded(name: &str, status: ExitStatus) -> Result<()> {
    if status.success() {
        Ok(())
    } else {
        Err(Stop::failed(format!("{name}: {status}")))
    }
}

/// Returns the next line of a child's output, `None` at its end.
pub async fn next_line(
    name: &str,
    lines: &mut Lines<BufReader<ChildStdout>>,
) -> Result<Option<String>> {
    lines
        .next_line()
        .await
        .context(|| format!("could not read the output of {name}"))
}

/// Returns the program and its arguments for a message: no secret is ever an argument.
pub fn name(command: &Command) -> String {
    let command = command.as_std();
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    std::iter::once(program)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

fn piped<T>(pipe: Option<T>, name: &str) -> Result<T> {
    pipe.ok_or_else(|| Stop::failed(format!("the output of {name} is not piped")))
}
