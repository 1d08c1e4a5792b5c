//! A continuous search of folders for a secret: even a short-lived file with the secret is a leak.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
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
            let mut seen = BTreeMap::new();
            while !flag.load(Ordering::Relaxed) {
                for folder in &folders {
                    found.look(folder, &secrets, &mut seen);
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

/// The versions of the files that have been read.
type Seen = BTreeMap<PathBuf, Version>;
/// Inode, size, and the time of the last change in seconds and nanoseconds.
type Version = (u64, u64, i64, i64);

fn version(metadata: &Metadata) -> Version {
    let (seconds, nanoseconds) = (metadata.ctime(), metadata.ctime_nsec());
    (metadata.ino(), metadata.len(), seconds, nanoseconds)
}

impl Found {
    /// Reads each file that is new or has changed: to read all of them again would take the processor from the play.
    fn look(&mut self, folder: &Path, secrets: &[String], seen: &mut Seen) {
        crate::disk::walk(folder, &mut |path, metadata| {
            let version = version(metadata);
            if !metadata.is_file() || seen.get(path) == Some(&version) {
                return;
            }
            seen.insert(path.to_path_buf(), version);
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
    memchr::memmem::find(bytes, secret.as_bytes()).is_some()
}
