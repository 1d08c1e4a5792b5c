//! Where cloud-init and its kin keep what a host was given, and whether cloud-init runs us.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::environment::Environment;
use crate::scrub::Places;
use crate::store::safe_read;

/// Folders, and what the names of those of their entries begin with that count: user data, scripts made of
/// it and pickles of both; logs, beside those of others; what Azure's agent has of the custom data
/// (`ovf-env.xml`).
const FOLDERS: [(&str, &str); 4] = [
    ("/var/lib/cloud", ""),
    ("/run/cloud-init", ""),
    ("/var/log", "cloud-init"),
    ("/var/lib/waagent", ""),
];

/// All of these on this host.
#[must_use]
pub fn places(environment: &Environment, patience: Duration) -> Places<'static> {
    let folders = FOLDERS.map(|(folder, prefix)| (environment.resolved_path(folder), prefix));
    Places {
        folders: folders.into(),
        processes: environment.kernel_path("/proc"),
        known: BTreeSet::new(),
        patience,
    }
}

/// A place that may hold a secret and is not ours to edit.
#[derive(Clone, Copy, Debug)]
pub struct Unsearched {
    /// What it is.
    pub place: &'static str,
    /// The command that looks there, for an enrolment token.
    pub look: &'static str,
}

/// Those that this host has.
#[must_use]
pub fn unsearched(environment: &Environment) -> Vec<Unsearched> {
    let is_there = |paths: &[&str]| {
        let mut paths = paths.iter().map(|path| environment.resolved_path(path));
        paths.any(|path: PathBuf| path.exists())
    };
    let mut found = Vec::new();
    if is_there(&["/var/log/journal", "/run/log/journal"]) {
        found.push(Unsearched {
            place: "journal",
            look: "journalctl --boot=all --output=cat | grep -cE 'enrl_[A-Za-z0-9_-]{16}'",
        });
    }
    if is_there(&["/var/log/syslog", "/var/log/messages"]) {
        found.push(Unsearched {
            place: "syslog",
            look: "grep -lE 'enrl_[A-Za-z0-9_-]{16}' /var/log/syslog* /var/log/messages*",
        });
    }
    found.push(Unsearched {
        place: "console",
        look: "the cloud's own, such as aws ec2 get-console-output --latest --instance-id ID",
    });
    found
}

/// Whether one of cloud-init's own units runs this process, as systemd names them.
#[must_use]
pub fn runs_us(environment: &Environment) -> bool {
    let groups = safe_read::text(&environment.kernel_path("/proc/self/cgroup")).unwrap_or_default();
    is_run_by_cloud_init(&groups)
}

/// Returns whether a control group of `/proc/self/cgroup` (cgroups(7)) is that of a unit of cloud-init.
#[must_use]
pub fn is_run_by_cloud_init(groups: &str) -> bool {
    groups.lines().any(|line| {
        let unit = line.rsplit('/').next().unwrap_or_default();
        unit.starts_with("cloud-") && unit.ends_with(".service")
    })
}
