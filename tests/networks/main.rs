//! The real agent and the real hub, with a hostile network of real parts between them.
//!
//! Each test has network namespaces of its own: the hub's, in which the test itself runs, and the
//! host's, joined by a link. No other network can be reached from there, and all of it vanishes
//! with the test, however that ends. It takes root, so each is `#[ignore]`: `cargo xtask test networks`
//! runs them.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests lay out hosts, run processes, and fail by panicking"
)]

mod authority;
mod certificates;
#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "the other tests use all of it")]
mod common;
mod dns;
mod dns_answers;
mod forward_proxy;
mod link_faults;
mod name_server;
mod named_hub;
mod network;
mod reverse_proxies;
mod running_agent;
mod server;
mod topology;

/// Waits until `condition` is true, at most two minutes.
#[track_caller]
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let patience = std::time::Instant::now() + std::time::Duration::from_mins(2);
    while !condition() {
        assert!(std::time::Instant::now() < patience, "timed out: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
