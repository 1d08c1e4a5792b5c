//! The log: on standard error only, as text or JSON, without anything that looks like a token.

use std::io::{self, IsTerminal, Write};

use tracing::{Dispatch, Level};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use crate::cli::{Global, LogFormat};
use agent_core::environment::Progress;
use agent_core::escape;
use agent_core::redact::redact;

/// Starts the log with the level and format of the command line.
pub fn start(global: &Global) {
    let count = |times: u8| i32::from(times);
    let verbosity = count(global.verbose) - count(global.quiet);
    let dispatch = dispatch(global.log_format, verbosity, print);
    // Only a test starts a second log in one process; the first log continues.
    drop(tracing::dispatcher::set_global_default(dispatch));
}

/// Returns the log with this format. `verbosity` is the number of `-v` minus the number of `-q`. `write`
/// gets each complete line.
fn dispatch(format: LogFormat, verbosity: i32, write: fn(&[u8]) -> io::Result<()>) -> Dispatch {
    let level = match verbosity {
        ..=-2 => LevelFilter::OFF,
        -1 => LevelFilter::from_level(Level::WARN),
        0 => LevelFilter::from_level(Level::INFO),
        1 => LevelFilter::from_level(Level::DEBUG),
        2.. => LevelFilter::from_level(Level::TRACE),
    };
    // The log of libraries is not for operators, so it needs -vv.
    let others = if verbosity >= 2 {
        level
    } else {
        LevelFilter::OFF
    };
    // `Targets` compares the beginning of a target, so `dialect_` matches every dialect's crate.
    let ours = ["monsys_agent", "agent_core", "dialect_"];
    let targets = Targets::new()
        .with_default(others)
        .with_targets(ours.map(|target| (target, level)));
    let registry = tracing_subscriber::registry().with(targets);
    let layer = tracing_subscriber::fmt::layer().with_writer(Cleaning { format, write });
    match format {
        LogFormat::Text => registry
            .with(layer.without_time().with_target(verbosity >= 2))
            .into(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).into(),
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the log")]
fn print(line: &[u8]) -> io::Result<()> {
    io::stderr().write_all(line)
}

/// Returns the function that updates a progress line in place, if standard error is a terminal and the log
/// is text.
#[expect(clippy::disallowed_methods, reason = "this is the log")]
#[must_use]
pub fn progress(global: &Global) -> Option<Progress> {
    let is_shown = io::stderr().is_terminal()
        && global.quiet <= global.verbose
        && matches!(global.log_format, LogFormat::Text);
    is_shown.then(|| -> Progress {
        Box::new(|line| {
            // A closed terminal needs no progress line.
            drop(write!(io::stderr(), "\r\x1b[2K{}", escape::one_line(line)));
        })
    })
}

/// Writes one event at a time, without secrets and hidden characters.
#[derive(Clone, Copy)]
struct Cleaning {
    format: LogFormat,
    write: fn(&[u8]) -> io::Result<()>,
}

impl MakeWriter<'_> for Cleaning {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

impl Write for Cleaning {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = redact(&text);
        let text = text.trim_end_matches('\n');
        let text = match self.format {
            LogFormat::Text => escape::indented(text),
            LogFormat::Json => escape::json(text),
        };
        (self.write)(format!("{text}\n").as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
