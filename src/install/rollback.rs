//! Rollback of one change in the install record. An object that somebody has changed since stays.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tokio::time::Instant;

use super::change::sha256;
use super::locks::Locks;
use super::record::{self, RecordedChange};
use super::system_commands::SystemCommands;
use super::{inspect, user};
use agent_core::environment::Environment;
use agent_core::store::atomic;
use agent_core::store::lock::{self, Lock};

/// The result of the rollback of one change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RollbackOutcome {
    /// The change was undone.
    RolledBack,
    /// The changed object does not exist any more.
    AlreadyGone,
    /// The change stays, for this reason.
    Remains(String),
}

/// Rolls back `change`. With `purge`, also removes a file that somebody has changed since.
pub(super) async fn roll_back(
    change: &RecordedChange,
    purge: bool,
    environment: &Environment,
    system: &SystemCommands<'_>,
    locks: &Locks,
) -> RollbackOutcome {
    let remains = |error: io::Error| RollbackOutcome::Remains(error.to_string());
    match change {
        RecordedChange::MakeUser { group, .. }
            if user::find(environment).is_none()
                && (group.is_none() || user::has_group(environment)) =>
        {
            RollbackOutcome::AlreadyGone
        }
        RecordedChange::MakeUser { group, .. } => {
            let unshared = inspect::unshare(&[], environment);
            match unshared.and(user::remove(system, environment, *group).await) {
                Ok(()) => RollbackOutcome::RolledBack,
                Err(error) => {
                    RollbackOutcome::Remains(format!("{}: {}", error.what(), error.cause()))
                }
            }
        }
        RecordedChange::MakeFolder { path } => {
            remove_folder(&environment.resolved_path(path), environment, locks).await
        }
        RecordedChange::Give { .. } => RollbackOutcome::AlreadyGone,
        RecordedChange::PutFile { path, sha256, kept } => {
            let kept = kept.as_ref().map(|kept| environment.path(kept));
            remove_file(&environment.path(path), sha256, kept.as_deref(), purge)
                .unwrap_or_else(remains)
        }
        RecordedChange::Link { path, target } => {
            remove_link(&environment.path(path), target).unwrap_or_else(remains)
        }
    }
}

fn remove_link(path: &Path, target: &Path) -> io::Result<RollbackOutcome> {
    match fs::read_link(path) {
        Ok(known) if known == target => atomic::remove(path).map(|()| RollbackOutcome::RolledBack),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(RollbackOutcome::AlreadyGone),
        _ => Ok(RollbackOutcome::Remains(
            "it is not the link that was made".into(),
        )),
    }
}

fn remove_file(
    path: &Path,
    sums: &[String],
    kept: Option<&Path>,
    purge: bool,
) -> io::Result<RollbackOutcome> {
    let restore = |kept: &Path| {
        atomic::rename(kept, path)?;
        // rename(2) does nothing if both are names of one file, which was not replaced yet.
        atomic::remove(kept).map(|()| RollbackOutcome::RolledBack)
    };
    let current = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match kept.filter(|kept| kept.exists()) {
                Some(kept) => restore(kept),
                None => Ok(RollbackOutcome::AlreadyGone),
            };
        }
        Err(error) => return Err(error),
    };
    let is_ours = current.is_file() && sums.contains(&sha256(&fs::read(path)?));
    match kept.map(|kept| (kept, fs::symlink_metadata(kept))) {
        // A run was killed before it replaced the file.
        Some((_, Err(_))) if !is_ours => Ok(RollbackOutcome::AlreadyGone),
        Some((kept, Ok(old))) if is_ours || is_same(&old, &current) => restore(kept),
        _ if is_ours || (purge && current.is_file()) => {
            atomic::remove(path).map(|()| RollbackOutcome::RolledBack)
        }
        _ => Ok(RollbackOutcome::Remains(
            "somebody has changed it since".into(),
        )),
    }
}

/// Returns true if both are names of one file.
fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Removes a folder if it contains only locks, temporary files and the install record, and no file of an enrolled
/// host.
pub(super) async fn remove_folder(
    folder: &Path,
    environment: &Environment,
    locks: &Locks,
) -> RollbackOutcome {
    let remains = |error: io::Error| RollbackOutcome::Remains(error.to_string());
    let names = match names(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return RollbackOutcome::AlreadyGone;
        }
        Err(error) => return remains(error),
        Ok(names) => names,
    };
    let has_record = folder == environment.resolved_path(record::FOLDER);
    let is_record = |name: &str| has_record && name == "install.json";
    let is_other =
        |name: &&String| !is_record(name) && !lock::is_lock(name) && !atomic::is_temporary(name);
    let others: Vec<&str> = names.iter().filter(is_other).map(String::as_str).collect();
    if !others.is_empty() {
        return RollbackOutcome::Remains(format!("it contains {}", others.join(", ")));
    }
    // The holder of a lock is enrolling, and will write to this folder.
    let mut held = Vec::new();
    for name in [lock::FILE, lock::DIALECT_FILE] {
        let exists = names.iter().any(|known| known == name);
        if !exists || locks.is_held(folder, name) {
            continue;
        }
        match Lock::take(folder, name, Instant::now()).await {
            Ok(lock) => held.push(lock),
            Err(error) => return RollbackOutcome::Remains(error.cause().to_owned()),
        }
    }
    // The locks are removed last: they keep another run out of this folder.
    let (last, first): (Vec<_>, Vec<_>) = names.iter().partition(|name| lock::is_lock(name));
    let removed = first
        .into_iter()
        .chain(last)
        .try_for_each(|name| atomic::remove(&folder.join(name)))
        .and_then(|()| atomic::remove_folder(folder));
    drop(held);
    removed.map_or_else(remains, |()| RollbackOutcome::RolledBack)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}
