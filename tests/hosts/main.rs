//! Booted hosts: systemd in containers on a separate network, which reach a real hub.
//!
//! `cargo xtask test hosts` prepares the trees that they boot from and the release that they install, and
//! then runs this binary. Everything that a test makes (namespaces, mounts, cgroups, processes) is removed
//! at its end, even if it is killed.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests lay out hosts, run processes, print what they saw, and fail by panicking"
)]

mod cgroup;
mod clones;
mod cloud_init;
#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "the other tests use all of it")]
mod common;
mod disk;
mod ephemeral;
mod first_boot;
mod fleet;
mod lan;
mod lost_hub;
mod machine;
mod matrix;
mod one_liner;
mod packages;
mod packages_offline;
mod prepared;
mod privilege;
mod scrubbed;
mod search;
mod seed;
mod templates;
mod watch;
mod web;

mod ansible;
mod boot;

/// Waits until `condition` is true, at most two minutes.
#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let patience = std::time::Instant::now() + std::time::Duration::from_mins(2);
    while !condition() {
        assert!(std::time::Instant::now() < patience, "timed out: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
