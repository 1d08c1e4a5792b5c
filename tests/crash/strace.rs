//! strace: the trace of a run, and a run with an injection at one of its system calls.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::common::TestHub;
use crate::scenario::Scenario;

/// Absolute, since the commands of the tests have no PATH.
const STRACE: &str = "/usr/bin/strace";

/// The system calls of an uninterrupted run, in order, and the trace that they come from.
pub(crate) struct Calls(Vec<Point>, String);

/// The `count`th call of `name` in a run.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    name: String,
    count: u32,
}

/// The interruption at a point.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Injection {
    /// SIGKILL.
    Kill,
    /// The call fails with this error.
    Error(&'static str),
}

/// A point and the interruption at it.
#[derive(Clone, Debug)]
pub(crate) struct PlacedInjection {
    point: Point,
    injection: Injection,
}

/// Runs the scenario once under strace, without injection.
pub(crate) fn record(scenario: &Scenario) -> Calls {
    let hub = TestHub::new();
    let case = (scenario.prepare)(&hub);
    let trace = tempfile::NamedTempFile::new().unwrap();
    let run = case
        .command(&hub)
        .under(
            Command::new(STRACE)
                .args(["-f", "-qq", "-o"])
                .arg(trace.path()),
        )
        .run();
    assert_eq!(run.code, 0, "{}", run.stderr);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let text = fs::read_to_string(trace.path()).unwrap();
    let points = text.lines().filter_map(|line| {
        let name = name(line)?;
        let count = counts.entry(name.to_owned()).or_default();
        *count += 1;
        // execve is the start of the program itself.
        (name != "execve").then(|| Point {
            name: name.to_owned(),
            count: *count,
        })
    });
    let calls = Calls(points.collect(), text.clone());
    assert!(calls.0.len() > 100, "{text}");
    calls
}

/// Returns the name of the call in a line of the trace: `1234  openat(AT_FDCWD, …`, not `1234  <... resumed>` or
/// `1234  +++ exited`.
fn name(line: &str) -> Option<&str> {
    let call = line.split_once(' ')?.1.trim_start();
    let name = call.split_once('(')?.0;
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (is_name && !name.is_empty()).then_some(name)
}

/// Returns whether a call of this name opens, writes, syncs or renames a file, or makes a directory.
pub(crate) fn touches_files(name: &str) -> bool {
    [
        "openat",
        "open",
        "creat",
        "write",
        "pwrite64",
        "writev",
        "fsync",
        "fdatasync",
        "rename",
        "renameat",
        "renameat2",
        "mkdir",
        "mkdirat",
        "fchmod",
        "chmod",
        "fchown",
        "ftruncate",
        "unlink",
        "unlinkat",
        "flock",
    ]
    .contains(&name)
}

/// Returns whether a call of this name touches files or sends or receives data.
pub(crate) fn changes_something(name: &str) -> bool {
    touches_files(name) || ["connect", "sendto", "recvfrom"].contains(&name)
}

impl Calls {
    /// Returns the points after the last call whose line of the trace contains `text`.
    pub(crate) fn points_after(&self, text: &str) -> impl Iterator<Item = Point> {
        let mut lines = self.1.lines().rev();
        let after = lines.by_ref().take_while(|line| !line.contains(text));
        let count = after.filter(|line| name(line).is_some()).count();
        assert!(lines.next().is_some(), "no {text:?} in the trace");
        self.0[self.0.len().saturating_sub(count)..].iter().cloned()
    }

    /// Returns the points from the first line of the trace on that contains `text`.
    pub(crate) fn points_from(&self, text: &str) -> impl Iterator<Item = Point> {
        let mut lines = self.1.lines();
        let before = lines.by_ref().take_while(|line| !line.contains(text));
        let count = before.filter(|line| name(line).is_some()).count();
        assert!(count < self.0.len(), "no {text:?} in the trace");
        self.0[count..].iter().cloned()
    }

    /// Returns the points whose name is wanted.
    pub(crate) fn points(&self, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = Point> {
        self.0
            .iter()
            .filter(move |point| wanted(&point.name))
            .cloned()
    }
}

impl Point {
    pub(crate) fn touches_files(&self) -> bool {
        touches_files(&self.name)
    }

    pub(crate) fn opens_or_syncs(&self) -> bool {
        ["openat", "fsync"].contains(&self.name.as_str())
    }

    pub(crate) fn with(&self, injection: Injection) -> PlacedInjection {
        PlacedInjection {
            point: self.clone(),
            injection,
        }
    }
}

impl PlacedInjection {
    /// Returns strace with this injection. It follows only the one call, so it costs little.
    pub(crate) fn strace(&self) -> Command {
        let Point { name, count } = &self.point;
        let injection = match self.injection {
            Injection::Kill => "signal=KILL".to_owned(),
            Injection::Error(error) => format!("error={error}"),
        };
        let mut strace = Command::new(STRACE);
        strace
            .args(["-f", "-qq", "-o", "/dev/null", "-e"])
            .arg(format!("trace={name}"))
            .arg("-e")
            .arg(format!("inject={name}:{injection}:when={count}"));
        strace
    }

    /// Returns whether the injection kills the run.
    pub(crate) fn kills(&self) -> bool {
        matches!(self.injection, Injection::Kill)
    }
}
