//! The log: on standard error only, as text or JSON, and without anything like a token.

use std::io::{self, IsTerminal, Write};

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::{Global, LogFormat};
use agent_core::environment::Progress;
use agent_core::escape;
use agent_core::redact::redact;

/// Starts the log as the command line asks.
pub fn start(global: &Global) {
    let count = |times: u8| i32::from(times);
    let verbosity = count(global.verbose) - count(global.quiet);
    let level = match verbosity {
        ..=-2 => LevelFilter::OFF,
        -1 => LevelFilter::from_level(Level::WARN),
        0 => LevelFilter::from_level(Level::INFO),
        1 => LevelFilter::from_level(Level::DEBUG),
        2.. => LevelFilter::from_level(Level::TRACE),
    };
    // The libraries below have nothing to say to an operator before -vv.
    let others = if verbosity >= 2 {
        level
    } else {
        LevelFilter::OFF
    };
    // A target is compared by its beginning, so any dialect's crate is among them.
    let ours = ["monsys_agent", "agent_core", "dialect_"];
    let targets = Targets::new()
        .with_default(others)
        .with_targets(ours.map(|target| (target, level)));
    let registry = tracing_subscriber::registry().with(targets);
    let layer = tracing_subscriber::fmt::layer().with_writer(Cleaning(global.log_format));
    let started = match global.log_format {
        LogFormat::Text => registry
            .with(layer.without_time().with_target(verbosity >= 2))
            .try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    // A second log in one process is a test's; the first one goes on.
    drop(started);
}

/// A line that is updated in place, where standard error is a terminal and the log is for people.
#[expect(clippy::disallowed_methods, reason = "this is the log")]
#[must_use]
pub fn progress(global: &Global) -> Option<Progress> {
    let is_watched = io::stderr().is_terminal()
        && global.quiet <= global.verbose
        && matches!(global.log_format, LogFormat::Text);
    is_watched.then(|| -> Progress {
        Box::new(|line| {
            // A terminal that went away is nobody to tell.
            drop(write!(io::stderr(), "\r\x1b[2K{}", escape::one_line(line)));
        })
    })
}

/// Writes one event at a time, without secrets and hidden characters.
#[derive(Clone, Copy)]
struct Cleaning(LogFormat);

impl MakeWriter<'_> for Cleaning {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

impl Write for Cleaning {
    #[expect(clippy::disallowed_methods, reason = "this is the log")]
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = redact(&text);
        let text = text.trim_end_matches('\n');
        let text = match self.0 {
            LogFormat::Text => escape::indented(text),
            LogFormat::Json => escape::json(text),
        };
        io::stderr().write_all(format!("{text}\n").as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
