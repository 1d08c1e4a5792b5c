//! A host and a hub, for one test each.

mod host;
mod hub;
mod lost_hub;
pub(crate) mod lyftdata;
#[allow(dead_code, reason = "each test binary uses its part")]
pub(crate) mod namespace;
pub(crate) mod ravenxcope;
mod service;

#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use host::{MODES, Prepared, Run, TestHost, keys, program};
#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use hub::{Mint, TestHub};
#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use lost_hub::LostHub;
#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use service::{SERVICE_USER, Service, needs_root, until};
