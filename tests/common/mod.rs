//! A host and a hub, for one test each.

mod host;
mod hub;
#[allow(dead_code, reason = "each test binary uses its part")]
mod hub_process;
#[allow(
    clippy::print_stdout,
    dead_code,
    reason = "each test binary uses its part; a test prints what it saw"
)]
pub(crate) mod lost_data;
mod lost_hub;
#[allow(dead_code, reason = "each test binary uses its part")]
pub(crate) mod lyftdata;
#[allow(dead_code, reason = "each test binary uses its part")]
pub(crate) mod namespace;
#[allow(dead_code, reason = "each test binary uses its part")]
pub(crate) mod one_answer;
mod operator;
pub(crate) mod ravenxcope;
mod service;

#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use host::{MODES, Prepared, Run, TestHost, keys, program};
#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use hub::TestHub;
#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use hub_process::HubProcess;
#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use lost_hub::{LostHub, free_address};
#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use operator::{Mint, Operator};
#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use service::{SERVICE_USER, Service, needs_root, until};
