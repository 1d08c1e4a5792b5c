//! The scrubber on random documents with a known expected result, checked by an independent searcher.
//!
//! `SCRUB_CASES` is the number of documents, `SCRUB_SEED` the first seed. A failing case is shrunk and printed
//! with its seed; `SCRUB_SEED=N SCRUB_CASES=1` runs it again.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests make files, run processes, print what they counted, and fail by panicking"
)]

mod case;
mod documents;
mod forms;
mod leaf;
mod node;
mod packers;
mod parsers;
mod random;
mod regressions;
#[expect(dead_code, reason = "the fuzz target looks for all of a token")]
mod searcher;
mod source;
mod spliced;
mod subject;
