//! A continuous record of the arguments of every process of this machine, including those in hosts.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A record that runs until its result is taken.
pub(crate) struct Watch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// The recorded arguments.
#[derive(Default)]
pub(crate) struct Seen {
    /// Every different list of arguments.
    pub(crate) arguments: BTreeSet<String>,
}

impl Watch {
    pub(crate) fn start() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while !flag.load(Ordering::Relaxed) {
                seen.look();
                // Often, but with time for the watched processes.
                std::thread::sleep(Duration::from_millis(5));
            }
            seen
        });
        Self { is_over, thread }
    }

    /// Returns everything recorded from the start until now.
    pub(crate) fn end(self) -> Seen {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

impl Seen {
    fn look(&mut self) {
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let is_process = process.file_name().as_encoded_bytes()[0].is_ascii_digit();
            if is_process && let Ok(bytes) = fs::read(process.path().join("cmdline")) {
                let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
                self.arguments.insert(text);
            }
        }
    }

    /// Panics if an argument contains `secret`, or if `program` was not recorded.
    #[track_caller]
    pub(crate) fn expect_no_secret(&self, secret: &str, program: &str) {
        let has = |part: &str| self.arguments.iter().find(|line| line.contains(part));
        assert!(has(program).is_some(), "{program} was not seen");
        assert_eq!(has(secret), None);
    }
}
