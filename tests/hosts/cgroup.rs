//! A separate cgroup for each host, in every hierarchy: systemd in one host must not see, or kill, the
//! processes of another.

use std::fs;
use std::path::{Path, PathBuf};

use crate::eventually;

const MOUNT: &str = "/sys/fs/cgroup";

/// The cgroups of one host. Dropping them kills their processes.
pub(crate) struct Cgroup(Vec<PathBuf>);

impl Cgroup {
    pub(crate) fn new(name: &str) -> Self {
        Self(hierarchies().iter().map(|top| make(top, name)).collect())
    }

    /// Returns the files to which a process writes its id to join the cgroups.
    pub(crate) fn doors(&self) -> impl Iterator<Item = PathBuf> {
        self.0.iter().map(|group| group.join("cgroup.procs"))
    }

    /// Kills all processes of the cgroups and waits until they have exited.
    pub(crate) fn kill(&self) {
        for group in &self.0 {
            // Only the unified hierarchy has this file, and it is enough.
            let _ = fs::write(group.join("cgroup.kill"), "1");
            eventually("an empty cgroup", || {
                below(group).iter().all(|group| is_empty(group))
            });
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.kill();
        for group in &self.0 {
            for group in below(group).iter().rev() {
                let _ = fs::remove_dir(group);
            }
        }
    }
}

/// Returns the folders: one in the unified layout, one for each controller in the old layout.
fn hierarchies() -> Vec<PathBuf> {
    let top = PathBuf::from(MOUNT);
    if top.join("cgroup.procs").exists() {
        return vec![top];
    }
    let entries = fs::read_dir(top)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|entry| entry.join("cgroup.procs").exists())
        .collect()
}

fn make(top: &Path, name: &str) -> PathBuf {
    let group = top.join(name);
    fs::create_dir(&group).unwrap();
    // No process can join a cpuset without processors.
    for file in ["cpuset.mems", "cpuset.cpus"] {
        if let (Ok(all), true) = (fs::read(top.join(file)), group.join(file).exists()) {
            fs::write(group.join(file), all).unwrap();
        }
    }
    group
}

/// Returns the cgroup and those below it, parents first.
fn below(group: &Path) -> Vec<PathBuf> {
    let mut found = vec![group.to_path_buf()];
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.path().is_dir()) {
        found.extend(below(&entry.path()));
    }
    found
}

fn is_empty(group: &Path) -> bool {
    fs::read(group.join("cgroup.procs")).is_ok_and(|processes| processes.is_empty())
        || !group.exists()
}
