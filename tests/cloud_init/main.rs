//! The user data of the Terraform module and the templates, run by cloud-init itself, with the real
//! agent and the real hub behind it.
//!
//! `cargo xtask test cloud-init` unpacks cloud-init, checks that Terraform is there, and runs these as
//! root. Each boot is in a mount namespace of its own.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests lay out hosts, run processes, and fail by panicking"
)]

mod aws;
mod boot;
mod boots;
#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "the other tests use all of it")]
mod common;
mod fetching;
mod noexec;
mod outcomes;
mod references;
mod scene;
mod scrub_boots;
mod server;
mod templates;
#[path = "../common/terraform.rs"]
#[allow(dead_code, reason = "the other tests use all of it")]
mod terraform;
mod vectors;
