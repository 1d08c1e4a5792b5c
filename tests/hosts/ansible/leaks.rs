//! A continuous search of folders for a secret: even a short-lived file with the secret is a leak.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A search that runs until its result is taken.
pub(super) struct Leaks {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Found>,
}

/// The result of a search.
#[derive(Default)]
pub(super) struct Found {
    /// Files that were read at least once.
    pub(super) read: BTreeSet<PathBuf>,
    /// Files that contained a secret.
    pub(super) leaks: BTreeSet<PathBuf>,
}

impl Leaks {
    pub(super) fn start(secrets: Vec<String>, folders: Vec<PathBuf>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut found = Found::default();
            while !flag.load(Ordering::Relaxed) {
                for folder in &folders {
                    found.look(folder, &secrets);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            found
        });
        Self { is_over, thread }
    }

    pub(super) fn end(self) -> Found {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

impl Found {
    fn look(&mut self, folder: &Path, secrets: &[String]) {
        crate::disk::walk(folder, &mut |path, metadata| {
            if !metadata.is_file() {
                return;
            }
            if let Ok(bytes) = fs::read(path) {
                if secrets.iter().any(|secret| contains_secret(&bytes, secret)) {
                    self.leaks.insert(path.to_path_buf());
                }
                self.read.insert(path.to_path_buf());
            }
        });
    }
}

/// Returns whether the bytes contain the secret.
pub(super) fn contains_secret(bytes: &[u8], secret: &str) -> bool {
    let secret = secret.as_bytes();
    bytes.windows(secret.len()).any(|part| part == secret)
}
