//! How far it is: a line that updates on a terminal, a plain line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two updates on a terminal, and between two plain lines.
const UPDATE: Duration = Duration::from_millis(200);
const PLAIN: Duration = Duration::from_secs(5);

pub(crate) struct Progress {
    on_terminal: bool,
    next: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            on_terminal: std::io::stderr().is_terminal(),
            next: Instant::now(),
        }
    }

    /// Shows the line unless one was shown just now.
    pub(crate) fn update(&mut self, line: impl FnOnce() -> String) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        if self.on_terminal {
            self.next = now + UPDATE;
            eprint!("\r\x1b[K{}", line());
            let _ = std::io::stderr().flush();
        } else {
            self.next = now + PLAIN;
            eprintln!("{}", line());
        }
    }

    /// Makes room for what comes next.
    pub(crate) fn end(self) {
        if self.on_terminal {
            eprint!("\r\x1b[K");
        }
    }
}
