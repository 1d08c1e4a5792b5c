//! The folder that stands for the host's `/`: turns a path of the host into a path on this machine.
//!
//! Below `--root`, a symbolic link means what it means to the host: an absolute target starts at the
//! root folder, and `..` at the root folder stays there. So a link never leads out of the tree.
//! `RESOLVE_IN_ROOT` of `openat2(2)` has the same rules, and the tests compare with it. The agent does not
//! call it: its readers and writers take a path and not a descriptor, and a path that is read back from
//! `/proc/self/fd` is no safer, costs more system calls, and is missing on Linux before 5.6.
//!
//! A path is resolved before it is opened. Whoever can change the tree between the two can lead the
//! agent out of it, so a tree belongs to somebody whom the agent's user trusts, or nobody changes it
//! while the agent works on it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::io::ErrorKind::{
    InvalidFilename, InvalidInput, NotADirectory, NotFound, PermissionDenied,
};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Most links in one path, as in `path_resolution(7)`.
const MOST_LINKS: usize = 40;

/// Follows the name of a link that cannot be resolved. The NUL byte makes every system call refuse the
/// path, so that nothing is read or written through the link.
const UNRESOLVABLE: &str = " (a symbolic link that cannot be resolved)\0";

/// How long a name that is not a link is taken to stay so, whether or not it exists: what the agent
/// makes there meanwhile is not a link either. Most commands are done by then. The service lives on
/// while an administrator may move a folder and put a link in its place.
const STEADY: Duration = Duration::from_secs(1);

/// The folder that stands for `/`.
#[derive(Debug)]
pub(super) struct RootFolder {
    path: PathBuf,
    plain: Mutex<Plain>,
}

/// Paths that are not links, and when the first of them was looked at.
#[derive(Debug, Default)]
struct Plain {
    since: Option<Instant>,
    paths: HashMap<PathBuf, Name>,
}

/// What there is at a path.
#[derive(Clone, Debug)]
enum Name {
    /// A link with this target.
    Link(PathBuf),
    /// Something that is not a link.
    Plain,
    /// Nothing, or nothing that this user can reach.
    Missing,
}

impl RootFolder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            plain: Mutex::default(),
        }
    }

    /// Returns the folder as it was given.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the folder is this machine's own `/`.
    pub(super) fn is_live(&self) -> bool {
        self.path == Path::new("/")
    }

    /// Resolves all of `path` but its last name, which may be a link.
    pub(super) fn resolve_parent(&self, path: &Path) -> PathBuf {
        match (path.parent(), path.components().next_back()) {
            (Some(parent), Some(Component::Normal(name))) if !self.is_live() => {
                self.resolve(parent).join(name)
            }
            _ => self.resolve(path),
        }
    }

    /// Resolves all of `path`. Names that do not exist are appended as they are.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        if self.is_live() {
            return super::below(&self.path, path);
        }
        let mut resolved = self.path.clone();
        let mut depth = 0;
        let mut missing_below = None;
        let mut links = 0;
        let mut steps = steps(path);
        while let Some(step) = steps.pop() {
            let Step::Into(name) = step else {
                let up_to = match step {
                    Step::Root => 0,
                    _ => depth.max(1) - 1,
                };
                for _ in up_to..depth {
                    resolved.pop();
                }
                depth = up_to;
                missing_below = missing_below.filter(|missing| *missing < depth);
                continue;
            };
            resolved.push(name);
            depth += 1;
            if missing_below.is_some() {
                continue;
            }
            match self.look(&resolved) {
                Ok(Name::Link(target)) if links < MOST_LINKS => {
                    links += 1;
                    resolved.pop();
                    depth -= 1;
                    steps.extend(self::steps(&target));
                }
                Ok(Name::Link(_)) | Err(_) => return unresolvable(resolved),
                Ok(Name::Plain) => {}
                Ok(Name::Missing) => missing_below = Some(depth - 1),
            }
        }
        resolved
    }

    /// Returns what there is at `path`, whose parent is resolved.
    fn look(&self, path: &Path) -> io::Result<Name> {
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        if plain.since.is_none_or(|since| since.elapsed() >= STEADY) {
            plain.since = Some(Instant::now());
            plain.paths.clear();
        }
        if let Some(name) = plain.paths.get(path) {
            return Ok(name.clone());
        }
        let name = match fs::read_link(path) {
            Ok(target) => return Ok(Name::Link(target)),
            Err(error) => match error.kind() {
                InvalidInput => Name::Plain,
                // Whoever opens the path is refused for the same reason.
                NotFound | NotADirectory | PermissionDenied | InvalidFilename => Name::Missing,
                _ => return Err(error),
            },
        };
        plain.paths.insert(path.to_owned(), name.clone());
        Ok(name)
    }
}

/// Returns a path beside `link` that every system call refuses.
fn unresolvable(link: PathBuf) -> PathBuf {
    let mut path = link.into_os_string();
    path.push(UNRESOLVABLE);
    path.into()
}

/// One step of a path.
enum Step {
    Root,
    Up,
    Into(OsString),
}

/// Returns the steps of `path`, the last one first.
fn steps(path: &Path) -> Vec<Step> {
    let steps = path.components().rev().filter_map(|part| match part {
        Component::RootDir => Some(Step::Root),
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Into(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    });
    steps.collect()
}

#[cfg(test)]
mod tests;
