//! Takes a secret out of what cloud-init and its kin keep, once the hub has confirmed the host.
//!
//! Three rules. Only the secret's bytes change: each write is compared with what was read, at the same
//! descriptor, and a form in which that cannot be done is left as it is. Every file is accounted for: it is
//! clean, or scrubbed, or named with the reason why it may still hold the secret. And memory and time are
//! bounded, whatever the files hold.

mod archive;
mod base64;
mod decoder;
mod encodings;
mod escapes;
mod file;
mod in_place;
pub mod record;
mod replace;
mod walk;
mod wanted;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use zeroize::Zeroizing;

pub use file::{Fate, Stamp, file};
pub use wanted::{Hashed, SHORTEST, Wanted};

use encodings::{DEEPEST, Remains, Search};
use file::Orders;

/// No secret that is looked for is longer, in bytes.
pub const LONGEST_SECRET: usize = 4096;
/// How long one run searches, unless it is told otherwise.
pub const PATIENCE: Duration = Duration::from_mins(2);
/// So often the list of files is read again: they may have been rotated, or written anew, meanwhile.
const ROUNDS: usize = 3;

/// What came of all files.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Files that the secret was taken out of.
    pub scrubbed: Vec<PathBuf>,
    /// Files that hold it, where nothing was to be changed.
    pub holding: Vec<PathBuf>,
    /// Files and folders that may still hold it.
    pub left: Vec<Left>,
    /// Files that are known to be clean, in the state that they were searched in.
    pub clean: BTreeSet<Stamp>,
}

/// Something that may still hold the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Where it is.
    pub path: PathBuf,
    /// Why.
    pub cause: String,
}

/// Where to search: each folder with all that is below it, or with what has a prefix.
pub struct Places<'p> {
    /// A folder, and what the names of those of its entries begin with that count.
    pub folders: Vec<(PathBuf, &'p str)>,
    /// Where the kernel shows the processes.
    pub processes: PathBuf,
    /// Files that need not be searched again.
    pub known: BTreeSet<Stamp>,
    /// How long to search.
    pub patience: Duration,
}

/// Takes what is wanted out of all files of these places.
#[must_use]
pub fn scrub(wanted: &Wanted, places: &Places<'_>) -> Report {
    run(wanted, places, false)
}

/// As [`scrub`], without changing anything.
#[must_use]
pub fn search(wanted: &Wanted, places: &Places<'_>) -> Report {
    run(wanted, places, true)
}

/// Whether `bytes` hold, in whatever layer, something that can be used as an enrolment token.
#[must_use]
pub fn has_token(bytes: &[u8]) -> bool {
    let wanted = Wanted::any_suspect();
    let mut copy = Zeroizing::new(bytes.to_vec());
    let mut search = Search::new(&wanted, Instant::now() + PATIENCE);
    search.visit(&mut copy, DEEPEST, false);
    search.found > 0
}

fn run(wanted: &Wanted, places: &Places<'_>, is_for_looking_only: bool) -> Report {
    let orders = Orders {
        wanted,
        deadline: Instant::now() + places.patience,
        is_for_looking_only,
        processes: &places.processes,
    };
    let mut report = Report::default();
    let mut scrubbed = BTreeSet::new();
    let mut left = BTreeMap::new();
    // What does not change is not looked at twice, also when it stays unclean.
    let mut seen = places.known.clone();
    for _ in 0..ROUNDS {
        let mut is_new = false;
        let mut there = BTreeSet::new();
        for (folder, prefix) in &places.folders {
            walk::walk(folder, prefix, &mut |found| match found {
                walk::Found::Unreadable(path, error) => {
                    left.insert(path.clone(), format!("it could not be read: {error}"));
                    there.insert(path);
                }
                walk::Found::Draft(path, place) if !is_for_looking_only => {
                    let cause = match replace::sweep(place.folder, place.name) {
                        Ok(true) => return,
                        Ok(false) => "another run of the agent may be writing it".into(),
                        Err(error) => error.to_string(),
                    };
                    left.insert(path.clone(), cause);
                    there.insert(path);
                }
                walk::Found::Draft(path, place) => {
                    let (fate, _) = file::scrub(&place, &orders);
                    if fate == Fate::Holding {
                        report.holding.push(path);
                    }
                }
                walk::Found::File(path, place, stamp) => {
                    there.insert(path.clone());
                    if !seen.insert(stamp) {
                        // What is not there any more is forgotten.
                        if places.known.contains(&stamp) {
                            report.clean.insert(stamp);
                        }
                        return;
                    }
                    if Instant::now() >= orders.deadline {
                        left.insert(path, Remains::Late.to_string());
                        return;
                    }
                    is_new = true;
                    tell_of_size(&path, stamp);
                    let (fate, stamp) = file::scrub(&place, &orders);
                    seen.extend(stamp);
                    left.remove(&path);
                    match fate {
                        Fate::Clean => report.clean.extend(stamp),
                        Fate::Scrubbed => {
                            report.clean.extend(stamp);
                            tracing::info!("scrubbed the enrolment token from {}", path.display());
                            scrubbed.insert(path);
                        }
                        Fate::Holding => report.holding.push(path),
                        Fate::Left(cause) => {
                            left.insert(path, cause);
                        }
                        Fate::Gone => {}
                    }
                }
            });
        }
        left.retain(|path, _| there.contains(path));
        if !is_new {
            break;
        }
    }
    report.scrubbed = scrubbed.into_iter().collect();
    report.left = left
        .into_iter()
        .map(|(path, cause)| Left { path, cause })
        .collect();
    report
}

/// Nobody is to wonder what takes so long.
fn tell_of_size(path: &Path, stamp: Stamp) {
    const LARGE: u64 = 256 << 20;
    if stamp.size() >= LARGE {
        tracing::info!(
            "searching {}, which has {} MiB",
            path.display(),
            stamp.size() >> 20
        );
    }
}

#[cfg(test)]
mod tests;
