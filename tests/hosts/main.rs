//! Really booted hosts: systemd in containers on a network of their own, which reach a real hub.
//!
//! `cargo xtask test hosts` lays out the trees that they boot from and the release that they
//! install, and then runs this. All that a test makes (namespaces, mounts, cgroups, processes)
//! ends with the test, however that ends.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests lay out hosts, run processes, tell what they saw, and fail by panicking"
)]

mod cgroup;
mod cloud_init;
#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "the other tests use all of it")]
mod common;
mod disk;
mod ephemeral;
mod fleet;
mod lan;
mod machine;
mod one_liner;
mod packages;
mod prepared;
mod privilege;
mod scrubbed;
mod search;
mod seed;
mod templates;
mod watch;
mod web;

mod ansible;
mod booting;

/// Waits until `condition` holds, and fails the test if it never does.
#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let patience = std::time::Instant::now() + std::time::Duration::from_mins(2);
    while !condition() {
        assert!(std::time::Instant::now() < patience, "never: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
