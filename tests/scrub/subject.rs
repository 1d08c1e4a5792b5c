//! The interface of the scrubber under test.

pub(crate) use agent_core::scrub::{Outcome as Fate, SecretMatcher as Wanted, file};
