//! The scrubber under test, by its interface alone.

pub(crate) use agent_core::scrub::{Fate, Wanted, file};
