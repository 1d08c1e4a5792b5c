//! The files of this machine outside of the project: no test may change them.
//!
//! A test that writes outside of its own overlay leaves a program or a unit on the machine of whoever runs the
//! suites. Only a comparison of all files shows that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Context, Result, Stop};

/// Of `/var/lib`, only what the agent, its packages and cloud-init write: the services of a running machine write
/// the rest.
const FOLDERS: [&str; 13] = [
    "/boot",
    "/etc",
    "/opt",
    "/root",
    "/srv",
    "/usr",
    "/var/lib/cloud",
    "/var/lib/dpkg",
    "/var/lib/lyftdata-worker",
    "/var/lib/mimir",
    "/var/lib/monsys",
    "/var/lib/monsys-boot",
    "/var/opt",
];
/// Tools that may be installed there.
const VOLATILE: [&str; 2] = ["/usr/local/cargo", "/usr/local/rustup"];
/// The folder whose hidden entries are the caches and the history of tools.
const HOME: &str = "/root";

/// The folders of the project, which the suites may change.
#[derive(Clone, Debug)]
pub struct Project {
    /// The checkout.
    pub root: PathBuf,
    /// The output of all builds.
    pub target: PathBuf,
}

impl Project {
    /// Returns the file that lists what packages have changed. It exists while the machine is watched.
    fn installed(&self) -> PathBuf {
        self.target.join("suites/installed")
    }
}

/// The paths below some folders, with the properties that a change of a file changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot(BTreeMap<PathBuf, Properties>);

/// Mode, owner, group; of files also the size, and the time of the last change in nanoseconds.
type Properties = (u32, u32, u32, Option<(u64, i128)>);

impl Snapshot {
    /// Reads the properties of this machine's files. Folders that this user cannot read are left out.
    #[must_use]
    pub fn of_machine(project: &Project) -> Self {
        let folders = FOLDERS.map(PathBuf::from);
        let mut skipped: Vec<_> = VOLATILE.iter().map(PathBuf::from).collect();
        skipped.extend([
            project.root.clone(),
            project.target.clone(),
            std::env::temp_dir(),
        ]);
        Self::of(&folders, &skipped)
    }

    fn of(folders: &[PathBuf], skipped: &[PathBuf]) -> Self {
        let mut snapshot = Self(BTreeMap::new());
        for folder in folders {
            snapshot.walk(folder, skipped);
        }
        snapshot
    }

    fn walk(&mut self, folder: &Path, skipped: &[PathBuf]) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let is_hidden = || name.as_encoded_bytes().starts_with(b".");
            let is_cache = name == "__pycache__" || (folder == Path::new(HOME) && is_hidden());
            if is_cache || skipped.contains(&path) {
                continue;
            }
            // A file that was removed in the meantime is left out.
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            if metadata.is_dir() {
                self.walk(&path, skipped);
            }
            self.0.insert(path, properties(&metadata));
        }
    }

    /// Returns the paths that differ between this and a later snapshot.
    #[must_use]
    pub fn changed_in(&self, later: &Self) -> Vec<PathBuf> {
        let paths = self.0.keys().chain(later.0.keys());
        let mut changed: Vec<_> = paths
            .filter(|path| self.0.get(*path) != later.0.get(*path))
            .cloned()
            .collect();
        changed.sort();
        changed.dedup();
        changed
    }
}

fn properties(metadata: &Metadata) -> Properties {
    let changed = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    // A folder changes with each temporary file in it.
    let content = (!metadata.is_dir()).then_some((metadata.len(), changed));
    (metadata.mode(), metadata.uid(), metadata.gid(), content)
}

/// The machine's files before the suites.
#[derive(Debug)]
pub struct Watch {
    project: Project,
    before: Snapshot,
    temporary: BTreeSet<PathBuf>,
}

/// Returns the files and folders in the folder for temporary files whose names the crate `tempfile` makes.
fn temporary(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b".tmp"))
        .map(|entry| entry.path())
        .collect()
}

impl Watch {
    /// Starts to watch, also in the processes of the suites.
    ///
    /// # Errors
    /// The list of what is installed cannot be written.
    pub fn start(project: Project) -> Result<Self> {
        let list = project.installed();
        let what = || format!("could not write {}", list.display());
        if let Some(folder) = list.parent() {
            fs::create_dir_all(folder).context(what)?;
        }
        fs::write(&list, "").context(what)?;
        Ok(Self {
            before: Snapshot::of_machine(&project),
            temporary: temporary(&std::env::temp_dir()),
            project,
        })
    }

    /// Ends the watch.
    ///
    /// # Errors
    /// A file has changed that no installation of a package has changed, or a test has left temporary files, which
    /// fill the disk sooner or later.
    pub fn end(self) -> Result<()> {
        let text = fs::read_to_string(self.project.installed()).unwrap_or_default();
        let _ = fs::remove_file(self.project.installed());
        let by_packages: Vec<_> = text.lines().map(Path::new).collect();
        let mut changed = self.before.changed_in(&Snapshot::of_machine(&self.project));
        changed.retain(|path| !by_packages.contains(&path.as_path()));
        let left = temporary(&std::env::temp_dir());
        changed.extend(left.difference(&self.temporary).cloned());
        if changed.is_empty() {
            return Ok(());
        }
        let mut cause = "the suites have changed files of this machine:".to_owned();
        for path in changed {
            cause.push_str("\n  ");
            cause.push_str(&path.display().to_string());
        }
        Err(Stop::failed(cause))
    }
}

/// The changes that the installation of packages makes are not those of a test.
pub(crate) struct Installation {
    project: Project,
    before: Option<Snapshot>,
}

impl Installation {
    pub(crate) fn start(project: Project) -> Self {
        let is_watched = project.installed().exists();
        let before = is_watched.then(|| Snapshot::of_machine(&project));
        Self { project, before }
    }

    pub(crate) fn end(self) -> Result<()> {
        let Some(before) = self.before else {
            return Ok(());
        };
        let list = self.project.installed();
        let what = || format!("could not write {}", list.display());
        let mut text = fs::read_to_string(&list).context(what)?;
        for path in before.changed_in(&Snapshot::of_machine(&self.project)) {
            text.push_str(&path.display().to_string());
            text.push('\n');
        }
        fs::write(&list, text).context(what)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn temporary_files_are_those_with_the_names_of_the_crate() {
        let folder = tempfile::tempdir().unwrap();
        let ours = tempfile::NamedTempFile::new_in(folder.path()).unwrap();
        fs::write(folder.path().join("another"), "").unwrap();
        let found: Vec<_> = temporary(folder.path()).into_iter().collect();
        assert_eq!(found, [ours.path()]);
    }

    #[test]
    fn each_kind_of_change_is_found_and_temporary_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["kept", "content", "mode", "gone"] {
            fs::write(path(name), name).unwrap();
        }
        for name in ["cache", "__pycache__", "folder"] {
            fs::create_dir(path(name)).unwrap();
        }
        let snapshot = || Snapshot::of(&[folder.path().to_owned()], &[path("cache")]);
        let before = snapshot();
        fs::write(path("folder/temporary"), "").unwrap();
        fs::remove_file(path("folder/temporary")).unwrap();
        fs::write(path("cache/new"), "").unwrap();
        fs::write(path("__pycache__/new"), "").unwrap();
        assert_eq!(before.changed_in(&snapshot()), Vec::<PathBuf>::new());
        fs::write(path("content"), "other").unwrap();
        fs::set_permissions(path("mode"), Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(path("gone")).unwrap();
        fs::write(path("folder/new"), "").unwrap();
        let expected = ["content", "folder/new", "gone", "mode"].map(path);
        assert_eq!(before.changed_in(&snapshot()), expected);
    }
}
