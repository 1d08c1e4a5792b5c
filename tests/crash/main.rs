//! Crash safety. After a SIGKILL or a failed system call at any point of an enrolment, the next run
//! leaves one agent, one use and complete files. After one in a rotation, the host still sends
//! heartbeats. After one in an unenrolment, the next run completes the unenrolment.
//!
//! strace records the system calls of one uninterrupted run. Then, for each call, a separate host runs
//! the real binary with SIGKILL or an error injected at that call, and runs it again without injection.
//! Each host has a token with a single use, so a second use would be a 401.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests lay out hosts, run processes, print what they tried, and fail by panicking"
)]

#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "the other tests use all of it")]
mod common;
mod enrolment;
mod inject;
mod installing;
mod lifecycle;
mod lyftdata;
mod mimir;
mod ravenxcope;
mod readmission;
mod scenario;
mod scrub;
mod strace;

use inject::inject_all;
use installing::ACCEPTED;
use scenario::Scenario;
use strace::{Injection, Point};

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
    killed(lifecycle::ALL);
}

#[test]
fn refused_every_write_sync_rename_and_open_of_a_rotation_and_an_unenrolment() {
    refused(lifecycle::ALL);
}

#[test]
fn killed_at_every_system_call_of_a_return_to_a_hub() {
    if is_long() {
        killed(readmission::ALL);
    } else {
        killed_at(strace::changes_something, readmission::ALL);
    }
}

#[test]
fn refused_every_write_sync_rename_and_open_of_a_return_to_a_hub() {
    let errors = if is_long() { &ERRORS } else { &ERRORS[..1] };
    refused_with(errors, readmission::ALL);
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
    let kills = points().map(|point| point.with(Injection::Kill));
    let errors = ["ENOSPC", "EIO", "EINTR"].map(Injection::Error);
    let refusals = points()
        .filter(Point::touches_files)
        .flat_map(|point| errors.map(|error| point.with(error)));
    let injections: Vec<_> = kills.chain(refusals).collect();
    let tried = inject_all(scenario, &injections);
    println!("{}: {tried} injections", scenario.name);
}

#[test]
fn killed_or_refused_after_the_acceptance_of_an_installation() {
    let injections = after_acceptance(&installing::SCENARIO);
    assert!(injections > 40, "{injections}");
}

#[test]
fn killed_or_refused_after_the_acceptance_of_a_new_key_of_a_host_with_a_receipt() {
    after_acceptance(&readmission::NEW_KEY);
}

/// The errors of refused calls.
const ERRORS: [&str; 4] = ["ENOSPC", "EIO", "EROFS", "EINTR"];

/// The scenarios of the other dialects, a file each.
const OTHERS: &[&[Scenario]] = &[lyftdata::ALL, mimir::ALL, ravenxcope::ALL];

/// Returns whether this is a long run. Otherwise, a return to a hub is killed only at the calls that change files
/// or use the network, and refused only with the first error: each host has its own hub, which is started twice.
fn is_long() -> bool {
    std::env::var_os("CRASH_LONG").is_some()
}

fn killed(scenarios: &[Scenario]) {
    killed_at(|_| true, scenarios);
}

fn killed_at(wanted: fn(&str) -> bool, scenarios: &[Scenario]) {
    for scenario in scenarios {
        let calls = strace::record(scenario);
        let injections = calls
            .points(wanted)
            .map(|point| point.with(Injection::Kill));
        let tried = inject_all(scenario, &injections.collect::<Vec<_>>());
        println!("{}: killed at {tried} points", scenario.name);
    }
}

fn refused(scenarios: &[Scenario]) {
    refused_with(&ERRORS, scenarios);
}

fn refused_with(errors: &[&'static str], scenarios: &[Scenario]) {
    for scenario in scenarios {
        let calls = strace::record(scenario);
        let points: Vec<_> = calls.points(strace::touches_files).collect();
        let injections = errors.iter().flat_map(|error| {
            points
                .iter()
                .map(|point| point.with(Injection::Error(error)))
        });
        let tried = inject_all(scenario, &injections.collect::<Vec<_>>());
        println!("{}: {tried} faults injected", scenario.name);
    }
}

/// Kills the run, and refuses its writes, at the calls after the hub's response. Returns how many injections took
/// effect.
fn after_acceptance(scenario: &Scenario) -> usize {
    let calls = strace::record(scenario);
    let points = || calls.points_after(ACCEPTED).filter(Point::touches_files);
    let kills = points().map(|point| point.with(Injection::Kill));
    let refusals = points()
        .filter(|point| !point.opens_or_syncs())
        .map(|point| point.with(Injection::Error("ENOSPC")));
    let injections: Vec<_> = kills.chain(refusals).collect();
    let tried = inject_all(scenario, &injections);
    println!("{}: {tried} injections after the acceptance", scenario.name);
    tried
}
