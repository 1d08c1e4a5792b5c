//! Anonymous network namespaces. They exist while a process has them open, so none remains even if the
//! test is killed.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};

const IP: &str = "/sbin/ip";

/// A network namespace.
pub(crate) struct Namespace(File);

impl Namespace {
    /// Opens the namespace of this thread.
    pub(crate) fn own() -> Self {
        Self(File::open("/proc/thread-self/ns/net").unwrap())
    }

    /// Makes a namespace with only loopback, and moves this thread into it.
    pub(crate) fn fresh() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        Self::own()
    }

    /// Moves this thread, and the processes that it starts later, into the namespace.
    pub(crate) fn enter(&self) {
        setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// Runs `task` and its child processes in the namespace, and returns to `home`.
    pub(crate) fn inside<T>(&self, home: &Self, task: impl FnOnce() -> T) -> T {
        self.enter();
        let result = catch_unwind(AssertUnwindSafe(task));
        home.enter();
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Returns the path by which another program can open the namespace while this process lives.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// Runs ip(8) with these words.
#[track_caller]
pub(crate) fn ip(words: &str) -> String {
    tool(IP, &words.split(' ').collect::<Vec<_>>())
}

/// Runs a program and returns its output; panics unless it succeeds.
#[track_caller]
pub(crate) fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|cause| panic!("{program}: {cause} (`cargo xtask test` installs it)"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
