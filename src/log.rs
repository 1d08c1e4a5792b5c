//! The log: on standard error only, as text or JSON, without anything that looks like a token.

mod line;

use std::io::{self, IsTerminal, Write};

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber};

use crate::cli::{Global, LogFormat};
use agent_core::environment::Progress;
use agent_core::escape;
use agent_core::redact::redact;

/// The beginnings of the targets of this workspace. `dialect_` is that of every dialect's crate.
const OURS: [&str; 3] = ["monsys_agent", "agent_core", "dialect_"];

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
    Dispatch::new(Log {
        format,
        verbosity,
        write,
    })
}

#[expect(clippy::disallowed_methods, reason = "this is the log")]
fn print(line: &[u8]) -> io::Result<()> {
    io::stderr().write_all(line)
}

/// Writes one event at a time, without secrets and hidden characters. Spans are not logged: `clippy.toml`
/// forbids them.
struct Log {
    format: LogFormat,
    verbosity: i32,
    write: fn(&[u8]) -> io::Result<()>,
}

impl Log {
    const fn level(&self) -> LevelFilter {
        match self.verbosity {
            ..=-2 => LevelFilter::OFF,
            -1 => LevelFilter::WARN,
            0 => LevelFilter::INFO,
            1 => LevelFilter::DEBUG,
            2.. => LevelFilter::TRACE,
        }
    }

    /// Returns whether the log has the events of libraries, and targets: they are not for operators.
    const fn is_complete(&self) -> bool {
        self.verbosity >= 2
    }
}

impl Subscriber for Log {
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level())
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_ours = || OURS.iter().any(|ours| metadata.target().starts_with(ours));
        !metadata.is_span()
            && *metadata.level() <= self.level()
            && (self.is_complete() || is_ours())
    }

    #[expect(clippy::disallowed_methods, reason = "the time of a line of the log")]
    fn event(&self, event: &Event<'_>) {
        let line = match self.format {
            LogFormat::Text => line::text(event, self.is_complete()),
            LogFormat::Json => line::json(event, std::time::SystemTime::now()),
        };
        let line = redact(&line);
        let line = line.trim_end_matches('\n');
        let line = match self.format {
            LogFormat::Text => escape::indented(line),
            LogFormat::Json => escape::json(line),
        };
        // One write, so that lines of several processes do not mix. A failed write to standard error cannot be
        // reported anywhere.
        drop((self.write)(format!("{line}\n").as_bytes()));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
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

#[cfg(test)]
mod tests;
