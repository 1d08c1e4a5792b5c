//! Children: each in a process group of its own, ended by its own id, never left behind.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Context, Result, Stop};

/// How long a child may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `command` with our output as its own; an error unless it exits 0.
pub(crate) async fn run(command: &mut Command) -> Result<()> {
    let name = name(command);
    let status = Running::spawn(command)?.wait().await?;
    succeeded(&name, status)
}

/// Runs `command`, prints its output line by line and shows each line to `look`.
pub(crate) async fn watch(command: &mut Command, mut look: impl FnMut(&str)) -> Result<ExitStatus> {
    let name = name(command);
    let mut running = Running::spawn(command.stdout(Stdio::piped()))?;
    let mut lines = running.lines()?;
    while let Some(line) = next_line(&name, &mut lines).await? {
        println!("{line}");
        look(&line);
    }
    running.wait().await
}

/// What a child said and how it ended.
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// All that it said: its log first, its result last.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.stderr, self.stdout)
    }
}

/// Runs `command` and keeps what it says. How it exits is for the caller to judge.
pub(crate) async fn capture(command: &mut Command) -> Result<Output> {
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

/// A child that runs beside us. Dropping it kills its whole process group.
pub(crate) struct Running {
    child: Child,
    name: String,
}

impl Running {
    /// Starts `command` with no standard input.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        let name = name(command);
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .context(|| format!("could not start {name}"))?;
        Ok(Self { child, name })
    }

    /// The lines of its standard output, which must have been piped.
    pub(crate) fn lines(&mut self) -> Result<Lines<BufReader<ChildStdout>>> {
        let stdout = piped(self.child.stdout.take(), &self.name)?;
        Ok(BufReader::new(stdout).lines())
    }

    /// Waits until it ends by itself.
    pub(crate) async fn wait(mut self) -> Result<ExitStatus> {
        self.child
            .wait()
            .await
            .context(|| format!("could not wait for {}", self.name))
    }

    /// Waits until it ends by itself, and kills it when that takes longer than `time`: `None`.
    pub(crate) async fn wait_or_kill(mut self, time: Duration) -> Result<Option<ExitStatus>> {
        let what = || format!("could not wait for {}", self.name);
        if let Ok(status) = tokio::time::timeout(time, self.child.wait()).await {
            return status.map(Some).context(what);
        }
        self.signal(Signal::SIGKILL);
        let status = self.child.wait().await.context(what)?;
        // It may have ended by itself in between.
        Ok(status.code().map(|_| status))
    }

    /// Its process id; `None` once it has been waited for.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it: SIGTERM to its own id, and an error if it does not obey.
    pub(crate) async fn terminate(mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM);
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.context(|| format!("could not wait for {}", self.name)),
            Err(_) => Err(Stop::failed(format!(
                "{} was still there {PATIENCE:?} after SIGTERM, and was killed",
                self.name
            ))),
        }
    }

    /// Signals the group that it leads; nothing once it has been waited for.
    fn signal(&self, signal: Signal) {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // The one way to fail is that it has just ended, which is what we want.
            let _ = killpg(Pid::from_raw(id), signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// Waits for Ctrl-C or SIGTERM: the reason to stop.
pub(crate) async fn interrupted() -> Stop {
    match interruption().await {
        Ok(which) => Stop::failed(format!("stopped by {which}; all that ran was ended")),
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

/// An error that names the command unless `status` is 0.
pub(crate) fn succeeded(name: &str, status: ExitStatus) -> Result<()> {
    if status.success() {
        Ok(())
    } else {
        Err(Stop::failed(format!("{name}: {status}")))
    }
}

/// The next line of a child's output, `None` at its end.
pub(crate) async fn next_line(
    name: &str,
    lines: &mut Lines<BufReader<ChildStdout>>,
) -> Result<Option<String>> {
    lines
        .next_line()
        .await
        .context(|| format!("could not read the output of {name}"))
}

/// The program and its arguments, as they go into a message: no secret is ever an argument.
pub(crate) fn name(command: &Command) -> String {
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
