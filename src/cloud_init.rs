//! Where cloud-init keeps what a host was given, and whether it runs us.

use std::fs;
use std::path::{Path, PathBuf};

use crate::store::read;
use crate::world::World;

/// User data, scripts made of it, pickles of both.
const FOLDERS: [&str; 2] = ["/var/lib/cloud", "/run/cloud-init"];
/// Its logs are here, beside those of others.
const LOGS: (&str, &str) = ("/var/log", "cloud-init");
/// Deeper than any of cloud-init's folders is.
const DEPTH: usize = 8;

/// Every file of cloud-init on this host: regular ones only, no link followed.
#[must_use]
pub fn files(world: &World) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        walk(&world.resolved_path(folder), DEPTH, &mut found);
    }
    let (folder, prefix) = LOGS;
    let mut logs = Vec::new();
    walk(&world.resolved_path(folder), 1, &mut logs);
    logs.retain(|log| {
        log.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
    });
    found.extend(logs);
    found.sort();
    found
}

/// Whether one of cloud-init's own units runs this process, as systemd names them.
#[must_use]
pub fn runs_us(world: &World) -> bool {
    let groups = read::text(&world.kernel_path("/proc/self/cgroup")).unwrap_or_default();
    is_run_by_cloud_init(&groups)
}

/// Returns whether a control group of `/proc/self/cgroup` (cgroups(7)) is that of a unit of cloud-init.
pub(crate) fn is_run_by_cloud_init(groups: &str) -> bool {
    groups.lines().any(|line| {
        let unit = line.rsplit('/').next().unwrap_or_default();
        unit.starts_with("cloud-") && unit.ends_with(".service")
    })
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    if depth == 0 {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // Links are not followed: `instance` points to a folder that is walked by itself.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), depth - 1, found),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}
