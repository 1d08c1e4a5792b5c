//! The Ansible collection: built and installed as its users do it, linted, its syntax checked, and its
//! variables the same in the role, in its argument specs and in docs/ansible.md.
//!
//! `cargo xtask test ansible` installs Ansible in a venv, and runs these.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests lay out files, run programs, and fail by panicking"
)]

mod collection;
mod outcomes;
mod quality;
mod refusals;
mod variables;
mod versions;

/// Returns the end of a long output.
fn end_of(output: &str) -> &str {
    let start = output.char_indices().nth_back(4_000);
    &output[start.map_or(0, |(at, _)| at)..]
}
