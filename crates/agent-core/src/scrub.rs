//! Removes a secret from the files of cloud-init and similar programs, after the hub has confirmed the host.
//!
//! Three rules:
//! - Only the secret's bytes change. Each write is compared with the bytes that were read, at the same
//!   descriptor. A form of the secret for which that is impossible is not changed.
//! - Every file is reported: as clean, as scrubbed, or with the reason why it may still contain the secret.
//! - Memory and time are limited, for all possible files.

mod decoder;
mod encodings;
mod file;
mod in_place;
mod matcher;
pub mod record;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use zeroize::Zeroizing;

pub use file::{Outcome, Stamp, file};
pub use matcher::{Hashed, SHORTEST, SecretMatcher};

use encodings::{DEEPEST, Obstacle, Search};
use file::Options;

/// The longest secret that is searched, in bytes.
pub const LONGEST_SECRET: usize = 4096;
/// The default time limit of a run.
pub const PATIENCE: Duration = Duration::from_mins(2);
/// The number of times that the list of files is read: files may be rotated or written during a run.
const ROUNDS: usize = 3;

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Files from which the secret was removed.
    pub scrubbed: Vec<PathBuf>,
    /// Files that contain the secret, when the run only searches.
    pub holding: Vec<PathBuf>,
    /// Files and folders that may still contain the secret.
    pub left: Vec<Remaining>,
    /// Clean files, in the state in which they were searched.
    pub clean: BTreeSet<Stamp>,
}

/// A file or folder that may still contain the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// The path of the file or folder.
    pub path: PathBuf,
    /// The cause, for messages.
    pub cause: String,
}

/// The files to search: each folder with all files below it, or only with names of a prefix.
pub struct Places<'p> {
    /// Folders, each with the prefix of the names to search in it.
    pub folders: Vec<(PathBuf, &'p str)>,
    /// The folder with the processes (`/proc`).
    pub processes: PathBuf,
    /// Files that are known to be clean.
    pub known: BTreeSet<Stamp>,
    /// The time limit of the run.
    pub patience: Duration,
}

/// Removes the secrets from all files of these places.
#[must_use]
pub fn scrub(matcher: &SecretMatcher, places: &Places<'_>) -> Report {
    run(matcher, places, false)
}

/// Searches all files of these places, and changes none.
#[must_use]
pub fn search(matcher: &SecretMatcher, places: &Places<'_>) -> Report {
    run(matcher, places, true)
}

/// Returns true when `bytes` contain, in any layer, a possible enrolment token.
#[must_use]
pub fn has_token(bytes: &[u8]) -> bool {
    let matcher = SecretMatcher::any_suspect();
    let mut copy = Zeroizing::new(bytes.to_vec());
    let mut search = Search::new(&matcher, Instant::now() + PATIENCE);
    search.visit(&mut copy, DEEPEST, false);
    search.found > 0
}

fn run(matcher: &SecretMatcher, places: &Places<'_>, is_search_only: bool) -> Report {
    let options = Options {
        matcher,
        deadline: Instant::now() + places.patience,
        is_search_only,
        processes: &places.processes,
    };
    let mut report = Report::default();
    let mut scrubbed = BTreeSet::new();
    let mut left = BTreeMap::new();
    // An unchanged file is searched once, even if a secret stays in it.
    let mut seen = places.known.clone();
    for _ in 0..ROUNDS {
        let mut is_new = false;
        let mut existing = BTreeSet::new();
        for (folder, prefix) in &places.folders {
            walk::walk(folder, prefix, &mut |found| match found {
                walk::Found::Unreadable(path, error) => {
                    left.insert(path.clone(), format!("could not be read: {error}"));
                    existing.insert(path);
                }
                walk::Found::Draft(path, place) if !is_search_only => {
                    let cause = match file::sweep(place.folder, place.name) {
                        Ok(true) => return,
                        Ok(false) => "another run of the agent may be writing it".into(),
                        Err(error) => error.to_string(),
                    };
                    left.insert(path.clone(), cause);
                    existing.insert(path);
                }
                walk::Found::Draft(path, place) => {
                    let (outcome, _) = file::scrub(&place, &options);
                    if outcome == Outcome::Holding {
                        report.holding.push(path);
                    }
                }
                walk::Found::File(path, place, stamp) => {
                    existing.insert(path.clone());
                    if !seen.insert(stamp) {
                        // Only files that still exist are recorded as clean.
                        if places.known.contains(&stamp) {
                            report.clean.insert(stamp);
                        }
                        return;
                    }
                    if Instant::now() >= options.deadline {
                        left.insert(path, Obstacle::Late.to_string());
                        return;
                    }
                    is_new = true;
                    log_size(&path, stamp);
                    let (outcome, stamp) = file::scrub(&place, &options);
                    seen.extend(stamp);
                    left.remove(&path);
                    match outcome {
                        Outcome::Clean => report.clean.extend(stamp),
                        Outcome::Scrubbed => {
                            report.clean.extend(stamp);
                            tracing::info!("removed the enrolment token from {}", path.display());
                            scrubbed.insert(path);
                        }
                        Outcome::Holding => report.holding.push(path),
                        Outcome::Left(cause) => {
                            left.insert(path, cause);
                        }
                        Outcome::Gone => {}
                    }
                }
            });
        }
        left.retain(|path, _| existing.contains(path));
        if !is_new {
            break;
        }
    }
    report.scrubbed = scrubbed.into_iter().collect();
    report.left = left
        .into_iter()
        .map(|(path, cause)| Remaining { path, cause })
        .collect();
    report
}

/// Logs the size of a large file, whose search takes long.
fn log_size(path: &Path, stamp: Stamp) {
    const LARGE: u64 = 256 << 20;
    if stamp.size() >= LARGE {
        tracing::info!("searching {} ({} MiB)", path.display(), stamp.size() >> 20);
    }
}

#[cfg(test)]
mod tests;
