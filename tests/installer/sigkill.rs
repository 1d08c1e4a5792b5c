//! An installation into a scratch root, with SIGKILL or an error injected at each system call that touches
//! a file. With an error, it succeeds or changes nothing. After both, the next run completes the
//! installation, and an uninstallation restores the tree.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::release;

const STRACE: &str = "/usr/bin/strace";
/// Calls that change files, and the calls that precede them.
const CALLS: [&str; 16] = [
    "openat",
    "write",
    "fsync",
    "rename",
    "renameat",
    "renameat2",
    "mkdir",
    "fchmod",
    "chmod",
    "fchown",
    "link",
    "linkat",
    "symlink",
    "unlink",
    "rmdir",
    "flock",
];

type Tree = BTreeMap<PathBuf, (u32, u32, Vec<u8>)>;

/// The files of a host, as in an image.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for folder in [
            "etc/systemd/system",
            "usr/lib/systemd",
            "usr/local/bin",
            "var/lib",
        ] {
            fs::create_dir_all(host.path(folder)).unwrap();
        }
        fs::write(host.path("usr/lib/systemd/systemd"), "").unwrap();
        fs::write(
            host.path("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nmonsys:x:990:990::/:/\n",
        )
        .unwrap();
        fs::write(host.path("etc/group"), "root:x:0:\nmonsys:x:990:\n").unwrap();
        fs::write(host.path("usr/local/bin/other"), "other").unwrap();
        symlink("other", host.path("usr/local/bin/link")).unwrap();
        // A foreign unit at the path of ours.
        fs::write(
            host.path("etc/systemd/system/monsys-agent.service"),
            "# own\n",
        )
        .unwrap();
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        walk(self.0.path(), &mut tree);
        tree
    }

    /// Runs the agent, under strace if `strace` has options.
    fn agent(&self, strace: &[&str], arguments: &[&str]) -> std::process::Output {
        let mut command = if strace.is_empty() {
            Command::new(release::agent())
        } else {
            let mut command = Command::new(STRACE);
            command
                .args(["-f", "-qq"])
                .args(strace)
                .arg(release::agent());
            command
        };
        command
            .args(arguments)
            .arg("--root")
            .arg(self.0.path())
            .env_clear()
            .output()
            .unwrap()
    }

    /// Runs the agent without injection; panics unless it succeeds.
    fn expect_success(&self, arguments: &[&str], what: &str) {
        let output = self.agent(&[], arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{what}: {arguments:?}: {stderr}"
        );
    }
}

fn walk(folder: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_symlink() {
            fs::read_link(&path)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes()
        } else if metadata.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        if metadata.is_dir() {
            walk(&path, tree);
        }
        tree.insert(path, (metadata.mode(), metadata.uid(), content));
    }
}

/// Returns how often each call occurs in an uninterrupted run.
fn record() -> Vec<(&'static str, usize)> {
    let host = Host::new();
    let trace = tempfile::NamedTempFile::new().unwrap();
    let only = format!("trace={}", CALLS.join(","));
    let options = ["-o", trace.path().to_str().unwrap(), "-e", &only];
    let run = host.agent(&options, &["install", "--no-enrol"]);
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let text = fs::read_to_string(trace.path()).unwrap();
    let count = |name: &str| {
        let call = format!(" {name}(");
        text.lines().filter(|line| line.contains(&call)).count()
    };
    let counts = CALLS.map(|name| (name, count(name)));
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Injects at each call in turn, then installs and uninstalls.
fn inject_at_each_call(
    injection: &str,
    check_run: impl Fn(&Host, &Tree, &std::process::Output, &str) + Sync,
) -> usize {
    inject_at_each_call_and(injection, check_run, |host, what| {
        host.expect_success(&["install", "--no-enrol"], what);
        host.expect_success(&["uninstall"], what);
    })
}

/// Injects at each call in turn, then calls `afterwards`.
fn inject_at_each_call_and(
    injection: &str,
    check_run: impl Fn(&Host, &Tree, &std::process::Output, &str) + Sync,
    afterwards: impl Fn(&Host, &str) + Sync,
) -> usize {
    let points: Vec<(&str, usize)> = record()
        .into_iter()
        .flat_map(|(name, count)| (1..=count).map(move |nth| (name, nth)))
        .collect();
    assert!(points.len() > 80, "{points:?}");
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((name, nth)) =
                    points.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let host = Host::new();
                    let before = host.tree();
                    let inject = format!("inject={name}:{injection}:when={nth}");
                    let trace = format!("trace={name}");
                    let options = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
                    let run = host.agent(&options, &["install", "--no-enrol"]);
                    let what = format!("{injection} at {name} {nth}");
                    check_run(&host, &before, &run, &what);
                    afterwards(&host, &what);
                    same(&host.tree(), &before, &what);
                }
            });
        }
    });
    points.len()
}

#[track_caller]
fn same(now: &Tree, before: &Tree, what: &str) {
    let paths = |tree: &Tree| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(now), paths(before), "{what}");
    for (path, entry) in now {
        assert!(
            before[path] == *entry,
            "{what}: {} is not as it was",
            path.display()
        );
    }
}

#[test]
fn an_installation_killed_at_each_call_is_completed_by_the_next_run_and_uninstalled() {
    let points = inject_at_each_call("signal=KILL", |_, _, _, _| {});
    println!("killed at {points} points");
}

#[test]
fn an_installation_killed_at_each_call_is_purged_completely() {
    let points = inject_at_each_call_and(
        "signal=KILL",
        |_, _, _, _| {},
        |host, what| host.expect_success(&["uninstall", "--purge"], what),
    );
    println!("killed at {points} points");
}

#[test]
fn an_installation_refused_each_call_succeeds_or_changes_nothing() {
    for error in ["ENOSPC", "EROFS"] {
        let points = inject_at_each_call(&format!("error={error}"), |host, before, run, what| {
            let stderr = String::from_utf8_lossy(&run.stderr);
            // If only its report got lost, the installation is complete and says so.
            if run.status.success() || stderr.contains("on disk nevertheless") {
                return;
            }
            assert!(stderr.contains("  hint:  "), "{what}: {stderr}");
            same(&host.tree(), before, &format!("{what}: {stderr}"));
        });
        println!("{error} at {points} points");
    }
}
