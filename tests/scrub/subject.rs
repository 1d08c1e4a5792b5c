//! The interface of the scrubber under test.

pub(crate) use agent_core::scrub::{Fate, Wanted, file};
