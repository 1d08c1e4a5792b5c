//! Whatever kills an enrolment, or refuses it a system call, the next run ends in one agent, one
//! use and whole files. Whatever kills a rotation, the host still talks to the hub; whatever kills
//! leaving, the next run ends it.
//!
//! strace records the system calls of one undisturbed run. Then, for each of them, a host of its
//! own runs the real binary with SIGKILL (or an error) at that very call, and runs it again
//! undisturbed. Each host has a token with a single use, so a second use would be a 401.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests lay out hosts, run processes, say what they tried, and fail by panicking"
)]

#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "the other tests use all of it")]
mod common;
mod enrolled;
mod installing;
mod life;
mod lyftdata;
mod mimir;
mod ravenxcope;
mod scenario;
mod scrub;
mod strace;
mod sweep;

use scenario::Scenario;
use strace::{Blow, Point};
use sweep::sweep;

#[test]
fn killed_at_every_system_call() {
    killed(scenario::ENROLMENTS);
}

#[test]
fn refused_every_write_sync_rename_and_open() {
    refused(scenario::ENROLMENTS);
}

#[test]
fn killed_at_every_system_call_of_a_rotation_and_an_unenrolment() {
    killed(life::ALL);
}

#[test]
fn refused_every_write_sync_rename_and_open_of_a_rotation_and_an_unenrolment() {
    refused(life::ALL);
}

#[test]
fn killed_at_every_system_call_of_other_dialects() {
    for scenarios in OTHERS {
        killed(scenarios);
    }
}

#[test]
fn refused_every_write_sync_rename_and_open_of_other_dialects() {
    for scenarios in OTHERS {
        refused(scenarios);
    }
}

#[test]
fn killed_or_refused_at_every_system_call_of_a_scrub() {
    let scenario = &scrub::ALL[0];
    let calls = strace::record(scenario);
    let points = || calls.points_from(scrub::BEGUN);
    let kills = points().map(|point| point.with(Blow::Kill));
    let errors = ["ENOSPC", "EIO", "EINTR"].map(Blow::Error);
    let refusals = points()
        .filter(Point::touches_files)
        .flat_map(|point| errors.map(|error| point.with(error)));
    let blows: Vec<_> = kills.chain(refusals).collect();
    let tried = sweep(scenario, &blows);
    println!("{}: {tried} blows", scenario.name);
}

#[test]
fn killed_or_refused_after_the_acceptance_of_an_installation() {
    let scenario = &installing::SCENARIO;
    let calls = strace::record(scenario);
    let points = || {
        calls
            .points_after(installing::ACCEPTED)
            .filter(Point::touches_files)
    };
    let kills = points().map(|point| point.with(Blow::Kill));
    let refusals = points()
        .filter(|point| !point.opens_or_syncs())
        .map(|point| point.with(Blow::Error("ENOSPC")));
    let blows: Vec<_> = kills.chain(refusals).collect();
    assert!(blows.len() > 40, "{blows:?}");
    let tried = sweep(scenario, &blows);
    println!("{}: {tried} blows after the acceptance", scenario.name);
}

/// The other systems, a file each.
const OTHERS: &[&[Scenario]] = &[lyftdata::ALL, mimir::ALL, ravenxcope::ALL];

fn killed(scenarios: &[Scenario]) {
    for scenario in scenarios {
        let calls = strace::record(scenario);
        let blows = calls.points(|_| true).map(|point| point.with(Blow::Kill));
        let tried = sweep(scenario, &blows.collect::<Vec<_>>());
        println!("{}: killed at {tried} points", scenario.name);
    }
}

fn refused(scenarios: &[Scenario]) {
    let errors = ["ENOSPC", "EIO", "EROFS", "EINTR"];
    for scenario in scenarios {
        let calls = strace::record(scenario);
        let points: Vec<_> = calls.points(strace::touches_files).collect();
        let blows = errors
            .iter()
            .flat_map(|error| points.iter().map(|point| point.with(Blow::Error(error))));
        let tried = sweep(scenario, &blows.collect::<Vec<_>>());
        println!("{}: {tried} faults injected", scenario.name);
    }
}
