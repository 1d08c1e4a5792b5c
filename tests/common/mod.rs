//! A host and a hub, for one test each.

mod host;
mod hub;

#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use host::{MODES, Prepared, Run, TestHost, keys};
pub(crate) use hub::{Mint, TestHub};
