//! A host and a hub, for one test each.

mod host;
mod hub;

pub(crate) use host::{Prepared, Run, TestHost};
pub(crate) use hub::{Mint, TestHub};
