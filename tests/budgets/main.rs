//! The budgets of the static binary, `xtask/budgets.toml`: numbers that noise cannot reach.
//!
//! `cargo xtask test budgets` builds the binary, counts its crates, and runs these. Each enrolment is in
//! a network of its own, since the number of interfaces changes the number of system calls.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests run programs, print what they counted, and fail by panicking"
)]

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "the other tests use all of it")]
mod common;
mod relay;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::TestHub;
use common::namespace::Namespace;
use relay::Relay;

/// Relative to the root of the project.
const FILE: &str = "xtask/budgets.toml";

#[test]
fn the_binary_is_within_its_budget() {
    let size = fs::metadata(from_suite("MONSYS_TEST_STATIC"))
        .unwrap()
        .len();
    check("binary_bytes", size);
}

/// A message of rustls' signer stands for its code. Certificates with RSA keys are verified all the same.
#[test]
fn the_binary_has_no_code_that_signs_with_rsa() {
    let binary = fs::read(from_suite("MONSYS_TEST_STATIC")).unwrap();
    for (message, is_there) in [
        ("failed to parse RSA private key", false),
        ("failed to parse ECDSA private key", true),
    ] {
        let found = memchr::memmem::find(&binary, message.as_bytes());
        assert_eq!(found.is_some(), is_there, "{message}");
    }
}

#[test]
fn the_crates_are_within_their_budget() {
    let crates = std::env::var("MONSYS_TEST_CRATES").expect("the suite sets it");
    check("crates", crates.parse().unwrap());
}

#[test]
#[ignore = "needs root: makes a network of its own"]
fn the_system_calls_are_within_their_budget() {
    let host = Host::new();
    let table = host.path("strace");
    let mut strace = Command::new("strace");
    strace
        .args(["--follow-forks", "--summary-only", "--output"])
        .arg(&table)
        .arg("--");
    host.enrol(strace, &host.hub.url());
    let calls = counts(&fs::read_to_string(&table).unwrap());
    let fsyncs = calls.iter().filter(|(name, _)| name.ends_with("sync"));
    check("fsyncs", fsyncs.map(|(_, count)| count).sum());
    check("syscalls", calls.iter().map(|(_, count)| count).sum());
}

/// Without the kernel's.
#[test]
#[ignore = "needs root: makes a network of its own"]
fn the_instructions_are_within_their_budget() {
    let host = Host::new();
    let log = host.path("callgrind");
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--log-file={}", log.display()));
    host.enrol(valgrind, &host.hub.url());
    let log = fs::read_to_string(&log).unwrap();
    let collected = log
        .lines()
        .find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    check("instructions", collected.expect(&log));
}

#[test]
#[ignore = "needs root: makes a network of its own"]
fn the_connections_and_round_trips_are_within_their_budget() {
    let host = Host::new();
    let relay = Relay::to(&host.hub.url());
    host.enrol(Command::new("env"), &relay.url);
    check("connections", relay.connections());
    check("round_trips", relay.round_trips());
}

/// A host that nobody has seen, and a hub, in a network of their own.
struct Host {
    hub: TestHub,
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let _network = Namespace::fresh();
        let host = Self {
            hub: TestHub::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        for folder in ["etc", "run", "var/lib"] {
            fs::create_dir_all(host.path(folder)).unwrap();
        }
        fs::write(host.path("etc/machine-id"), format!("{:032x}\n", 1)).unwrap();
        fs::write(host.path("etc/hostname"), "budget\n").unwrap();
        let os_release = "NAME=\"Budget\"\nPRETTY_NAME=\"Budget Linux 1\"\nID=budget\n";
        fs::write(host.path("etc/os-release"), os_release).unwrap();
        fs::copy(host.hub.ca_file().unwrap(), host.path("etc/hub-ca.pem")).unwrap();
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Enrols under the program `by`, which runs the agent.
    #[track_caller]
    fn enrol(&self, mut by: Command, url: &str) {
        by.arg(from_suite("MONSYS_TEST_STATIC"))
            .args(["enrol", "--hub-url", url, "--root"])
            .arg(self.folder.path())
            .arg("--ca-file")
            .arg(self.path("etc/hub-ca.pem"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("MONSYS_TOKEN", self.hub.token());
        let output = by.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{by:?}: {stderr}");
        self.hub.expect_one_slot();
    }
}

/// Reads the rows of `strace -c`: share, seconds, microseconds a call, calls, errors (if any), name.
fn counts(table: &str) -> Vec<(String, u64)> {
    let rows = table.lines().filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let name = *columns.last()?;
        let is_row = columns.len() >= 5 && columns[0].parse::<f64>().is_ok() && name != "total";
        is_row.then_some(())?;
        Some((name.to_owned(), columns[3].parse().ok()?))
    });
    let rows: Vec<_> = rows.collect();
    assert!(!rows.is_empty(), "strace's table:\n{table}");
    rows
}

/// Fails the test if a number is over its budget.
#[track_caller]
fn check(name: &str, number: u64) {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE)).unwrap();
    let budgets: toml::Table = toml::from_str(&text).unwrap();
    let budget = budgets[name].as_integer().unwrap();
    println!("{name}: {number} of {budget}");
    assert!(
        number <= u64::try_from(budget).unwrap(),
        "{name} is {number}, and {FILE} allows {budget}. If it is worth that, raise the budget there \
         and say why in CHANGELOG.md"
    );
}

#[track_caller]
fn from_suite(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    let path = path
        .unwrap_or_else(|| panic!("{variable} is not set: run this by `cargo xtask test budgets`"));
    path.into()
}

#[test]
fn calls_are_counted_with_and_without_errors() {
    let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000012           2         6           read
 40.00    0.000008           1         8         3 open
------ ----------- ----------- --------- --------- ----------------
100.00    0.000020           1        14         3 total
";
    let expected = [("read".to_owned(), 6), ("open".to_owned(), 8)];
    assert_eq!(counts(table), expected);
}
