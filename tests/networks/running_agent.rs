//! An agent whose log is read while it runs.

use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::common::Run;

/// A running agent. Dropping it kills it.
pub(crate) struct RunningAgent {
    child: Child,
    lines: Receiver<String>,
    log: String,
}

impl RunningAgent {
    pub(crate) fn of(mut child: Child) -> Self {
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines() {
                if send.send(line.unwrap()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            lines,
            log: String::new(),
        }
    }

    /// Waits until a line of the agent's log contains `part`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, part: &str) {
        loop {
            let Ok(line) = self.lines.recv_timeout(Duration::from_mins(2)) else {
                panic!("the agent never logged {part:?}:\n{}", self.log);
            };
            self.record(&line);
            if line.contains(part) {
                return;
            }
        }
    }

    /// Waits until the agent exits.
    pub(crate) fn end(mut self) -> Run {
        while let Ok(line) = self.lines.recv_timeout(Duration::from_mins(2)) {
            self.record(&line);
        }
        let mut stdout = String::new();
        let mut pipe = self.child.stdout.take().unwrap();
        pipe.read_to_string(&mut stdout).unwrap();
        let status = self.child.wait().unwrap();
        Run {
            code: status.code().unwrap_or(-1),
            stdout,
            stderr: std::mem::take(&mut self.log),
        }
    }

    fn record(&mut self, line: &str) {
        self.log.push_str(line);
        self.log.push('\n');
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
