//! install.sh and `monsys-agent install` on a complete machine: this one, under an overlay in a mount
//! namespace of each test. The changes of a run stay in the overlay and vanish with the test. Tests that
//! mount an overlay need root and are `#[ignore]`: `cargo xtask test installer` runs them.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests lay out hosts, run processes, print what they saw, and fail by panicking"
)]

mod after_acceptance;
#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "the other tests use all of it")]
mod common;
mod documented_commands;
mod download_folder;
mod download_settings;
mod failures;
mod fixture;
mod install_record;
mod machine;
mod ownership;
mod purge;
mod redirects;
mod release;
mod role;
mod script;
mod service;
mod service_user;
mod shells;
mod sigkill;
mod surroundings;
mod truncated;
mod umask;
mod unit;
mod untrusted_files;
mod vectors;
mod wrong_release;
