//! An agent that is being watched while it runs.

use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::common::Run;

/// A run of the agent that has not ended yet. Dropped, it ends.
pub(crate) struct Live {
    child: Child,
    lines: Receiver<String>,
    seen: String,
}

impl Live {
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
            seen: String::new(),
        }
    }

    /// Waits until the agent has said `part` in a line of its log.
    #[track_caller]
    pub(crate) fn until(&mut self, part: &str) {
        loop {
            let Ok(line) = self.lines.recv_timeout(Duration::from_mins(2)) else {
                panic!("the agent never said {part:?}:\n{}", self.seen);
            };
            self.keep(&line);
            if line.contains(part) {
                return;
            }
        }
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Run {
        while let Ok(line) = self.lines.recv_timeout(Duration::from_mins(2)) {
            self.keep(&line);
        }
        let mut stdout = String::new();
        let mut pipe = self.child.stdout.take().unwrap();
        pipe.read_to_string(&mut stdout).unwrap();
        let status = self.child.wait().unwrap();
        Run {
            code: status.code().unwrap_or(-1),
            stdout,
            stderr: std::mem::take(&mut self.seen),
        }
    }

    fn keep(&mut self, line: &str) {
        self.seen.push_str(line);
        self.seen.push('\n');
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
