//! A fleet whose hub has lost its data: the same agents come back, each once, without a use.
//!
//! `cargo xtask test fleet` builds the hub's program and then runs this binary: with 100 hosts, or with `--long` with
//! 1,000. Each host is the real agent with a root of its own; a thread for each stands for the service manager.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests lay out hosts, run processes, print what they saw, and fail by panicking"
)]

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "the other tests use all of it")]
mod common;
mod fleet;

use std::collections::BTreeMap;
use std::time::Duration;

use common::HubProcess;
use common::lost_data::{self, Hosts as _, RETURN};
use fleet::Fleet;

/// The hub is killed at each of so many commits while the fleet returns.
const COMMITS: usize = 12;

/// Size of the fleet, seconds between heartbeats, and the interval of a return.
fn scale() -> (usize, u32, Duration) {
    match std::env::var("MONSYS_TEST_FLEET").as_deref() {
        Ok("long") => (1000, 20, Duration::from_mins(1)),
        _ => (100, 2, Duration::from_secs(4)),
    }
}

#[test]
#[ignore = "needs root: each service runs as a user of its own"]
fn a_fleet_returns_to_a_hub_that_has_lost_its_data() {
    let (size, heartbeat_interval, interval) = scale();
    let mut hub = HubProcess::at(common::free_address(), heartbeat_interval);
    let fleet = Fleet::enrol(&hub, size, interval);
    assert_eq!((fleet.ids().len(), hub.spent()), (size, size as u64));
    fleet.until("the first heartbeats", &mut || {
        lost_data::heartbeats(&hub).len() == size
    });

    lost_data::database_lost(&mut hub, &fleet);
    expect_spread(&fleet, interval);
    print_returns(&hub);
    lost_data::older_copy(&mut hub, &fleet);
    lost_data::another_hub(&mut hub, &fleet);
    lost_data::killed_at_commits(&mut hub, &fleet, COMMITS);
    fleet.stop();
}

/// Checks that the first returns, as the hosts planned them, are spread over the interval.
fn expect_spread(fleet: &Fleet, interval: Duration) {
    let mut quarters = [0; 4];
    for pause in fleet.first_pauses() {
        let quarter = pause * 4 / interval.as_secs();
        quarters[usize::try_from(quarter).unwrap()] += 1;
    }
    println!("first returns planned in each quarter of the interval: {quarters:?}");
    // A quarter has 25 of 100, with a standard deviation of 4.3.
    let (least, most) = (fleet.ids().len() / 16, fleet.ids().len() * 7 / 16);
    assert!(
        quarters.iter().all(|count| (least..=most).contains(count)),
        "{quarters:?}"
    );
}

/// Prints how many hosts the hub has readmitted in each second.
fn print_returns(hub: &HubProcess) {
    let mut seconds = BTreeMap::new();
    let log = hub.log();
    for line in log.lines().filter(|line| line.contains(RETURN)) {
        let second = line.split('.').next().unwrap();
        *seconds.entry(second.to_owned()).or_insert(0) += 1;
    }
    println!("readmitted in each second:");
    for (second, count) in seconds {
        println!("  {second} {count:4} {}", "#".repeat(count));
    }
}
