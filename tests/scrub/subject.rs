//! The interface of the scrubber under test.

pub(crate) use monsys_agent::scrub::{Fate, Wanted, file};
