//! The scrubber beside random documents whose truth is known, and beside a searcher of its own.
//!
//! `SCRUB_CASES` says how many documents, `SCRUB_SEED` where they begin. A case that fails is shrunk
//! and printed with its seed; `SCRUB_SEED=N SCRUB_CASES=1` makes it again.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests make files, run processes, say what they counted, and fail by panicking"
)]

mod case;
mod documents;
mod faults;
mod forms;
mod leaf;
mod node;
mod packers;
mod random;
mod readers;
#[expect(dead_code, reason = "the fuzz target looks for all of a token")]
mod searcher;
mod source;
mod spliced;
mod subject;
