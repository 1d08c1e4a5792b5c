//! A host and a hub, for one test each.

mod host;
mod hub;

#[allow(unused_imports, reason = "one of the test binaries names it")]
pub(crate) use host::Prepared;
pub(crate) use host::{Run, TestHost};
pub(crate) use hub::{Mint, TestHub};
