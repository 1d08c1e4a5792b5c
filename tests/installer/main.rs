//! install.sh and `monsys-agent install` on a whole machine: this one, under an overlay that each
//! test has for itself, in a mount namespace of its own. What a run changes stays in the overlay
//! and vanishes with the test. It takes root, so each is `#[ignore]`: `cargo xtask test installer` runs
//! them.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests lay out hosts, run processes, tell what they saw, and fail by panicking"
)]

mod blows;
#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "the other tests use all of it")]
mod common;
mod documented;
mod enrolled;
mod failures;
mod foreign;
mod machine;
mod purge;
mod redirects;
mod release;
mod role;
mod script;
mod service;
mod shells;
mod truncated;
mod unit;
mod vectors;
