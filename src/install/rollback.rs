//! Taking back one change of the receipt: only what is still as it was left.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tokio::time::Instant;

use super::change::sha256;
use super::locks::Locks;
use super::receipt::{self, RecordedChange};
use super::system::System;
use super::{inspect, user};
use agent_core::environment::Environment;
use agent_core::store::atomic;
use agent_core::store::lock::{self, Lock};

/// What became of a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was taken back.
    Taken,
    /// There was nothing to take back any more.
    Gone,
    /// It stays, for this reason.
    Left(String),
}

/// Takes back `change`. `purge` also takes a file that somebody has changed since.
pub(super) async fn roll_back(
    change: &RecordedChange,
    purge: bool,
    environment: &Environment,
    system: &System<'_>,
    locks: &Locks,
) -> Fate {
    let told = |error: io::Error| Fate::Left(error.to_string());
    match change {
        RecordedChange::MakeUser { .. } if user::find(environment).is_none() => Fate::Gone,
        RecordedChange::MakeUser { .. } => {
            match inspect::unshare(&[], environment).and(user::remove(system).await) {
                Ok(()) => Fate::Taken,
                Err(error) => Fate::Left(format!("{}: {}", error.what(), error.cause())),
            }
        }
        RecordedChange::MakeFolder { path } => {
            remove_folder(&environment.resolved_path(path), environment, locks).await
        }
        RecordedChange::Give { .. } => Fate::Gone,
        RecordedChange::PutFile { path, sha256, kept } => {
            let kept = kept.as_ref().map(|kept| environment.path(kept));
            remove_file(&environment.path(path), sha256, kept.as_deref(), purge)
                .unwrap_or_else(told)
        }
        RecordedChange::Link { path, target } => {
            remove_link(&environment.path(path), target).unwrap_or_else(told)
        }
    }
}

fn remove_link(path: &Path, target: &Path) -> io::Result<Fate> {
    match fs::read_link(path) {
        Ok(known) if known == target => atomic::remove(path).map(|()| Fate::Taken),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Fate::Gone),
        _ => Ok(Fate::Left("it is not the link that was made".into())),
    }
}

fn remove_file(path: &Path, sums: &[String], kept: Option<&Path>, purge: bool) -> io::Result<Fate> {
    let restore = |kept: &Path| {
        atomic::rename(kept, path)?;
        // Nothing happens when both are names of the same file: it was not replaced yet.
        atomic::remove(kept).map(|()| Fate::Taken)
    };
    let there = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match kept.filter(|kept| kept.exists()) {
                Some(kept) => restore(kept),
                None => Ok(Fate::Gone),
            };
        }
        Err(error) => return Err(error),
    };
    let is_ours = there.is_file() && sums.contains(&sha256(&fs::read(path)?));
    match kept.map(|kept| (kept, fs::symlink_metadata(kept))) {
        // A run was killed before it replaced the file.
        Some((_, Err(_))) if !is_ours => Ok(Fate::Gone),
        Some((kept, Ok(old))) if is_ours || is_same(&old, &there) => restore(kept),
        _ if is_ours || (purge && there.is_file()) => atomic::remove(path).map(|()| Fate::Taken),
        _ => Ok(Fate::Left("somebody has changed it since".into())),
    }
}

/// Whether both are names of one file.
fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Removes a folder that holds nothing but what an agent leaves that is on no hub: locks, its temporary
/// files and its record.
pub(super) async fn remove_folder(folder: &Path, environment: &Environment, locks: &Locks) -> Fate {
    let told = |error: io::Error| Fate::Left(error.to_string());
    let mut names = match names(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Fate::Gone,
        Err(error) => return told(error),
        Ok(names) => names,
    };
    let has_receipt = folder == environment.resolved_path(receipt::FOLDER);
    let is_receipt = |name: &str| has_receipt && name == "install.json";
    let fields =
        |name: &&String| !is_receipt(name) && !lock::is_lock(name) && !atomic::is_temporary(name);
    let others: Vec<&str> = names.iter().filter(fields).map(String::as_str).collect();
    if !others.is_empty() {
        return Fate::Left(format!("it holds {}", others.join(", ")));
    }
    // Whoever holds the lock is enrolling, and will write here.
    let mut held = Vec::new();
    for name in [lock::FILE, lock::DIALECT_FILE] {
        let is_there = names.iter().any(|known| known == name);
        if !is_there || locks.fields(folder, name) {
            continue;
        }
        match Lock::take(folder, name, Instant::now()).await {
            Ok(lock) => held.push(lock),
            Err(error) => return Fate::Left(error.cause().to_owned()),
        }
    }
    // Until the locks are gone, nobody else begins here.
    names.sort_by_key(|name| lock::is_lock(name));
    let removed = names
        .iter()
        .try_for_each(|name| atomic::remove(&folder.join(name)))
        .and_then(|()| atomic::remove_folder(folder));
    drop(held);
    removed.map_or_else(told, |()| Fate::Taken)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}
