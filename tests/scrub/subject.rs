//! The scrubber under test, by its interface alone.

pub(crate) use monsys_agent::scrub::{Fate, Wanted, file};
