//! The process of a command: its limits, and the first process of a container.

use std::fs;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Run, SERVICE_USER, TestHost, TestHub, needs_root, until};

/// Returns a shell that runs its arguments under this limit.
fn limited(limit: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    let line = format!("ulimit {limit} && exec \"$@\"");
    shell.args(["-c", &line, "sh"]);
    shell
}

/// security.md, F1: a library panicked with a low limit of open files.
#[test]
fn a_low_limit_of_files_or_memory_is_raised_or_reported() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let token = hub.token();
    let under = |limit: &str| host.enrol(&hub, &token).under(&mut limited(limit)).run();
    for count in 4..12 {
        under(&format!("-n {count}"))
            .expect(74)
            .expect_stderr(&["the limit of open files", "ulimit -n 32"]);
    }
    for size in [9_000, 12_000, 16_000] {
        under(&format!("-d {size}"))
            .expect(74)
            .expect_stderr(&["the limit of the data segment", "ulimit -d unlimited"]);
    }
    // In units of 512 bytes: the kernel ended the process in the middle of a write.
    for size in [0, 1, 8] {
        under(&format!("-f {size}"))
            .expect(74)
            .expect_stderr(&["the limit of the size of a file", "ulimit -f unlimited"]);
    }
    assert_eq!((hub.agents().len(), hub.spent()), (0, 0));
    under("-S -n 6 && ulimit -S -d 12000 && ulimit -S -f 0").expect(0);
    hub.expect_one_slot();
}

/// A user may have no process left: then no thread starts either.
#[test]
#[ignore = "needs root: becomes another user"]
fn a_user_without_a_process_left_gets_an_error() {
    needs_root();
    let host = TestHost::new();
    std::os::unix::fs::chown(host.path(""), Some(SERVICE_USER), Some(SERVICE_USER)).unwrap();
    let with = |arguments: &[&str]| {
        let arguments = [&["enrol", "--wait", "0s"], arguments].concat();
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--nproc=1", "--"]);
        let agent = host.agent(&arguments).stdin(b"enrl_x\n");
        let run = agent.under(&mut prlimit).by_user(SERVICE_USER).run();
        assert!(!run.stderr.contains("panicked"), "{run:?}");
        run.expect_stderr(&["no thread was started"]);
    };
    with(&["--token-file", "-", "--hub-url", "https://127.0.0.1:1"]);
    // A name server is asked in a thread.
    host.write_file("token", "enrl_x\n");
    with(&["--token-file", "token", "--hub-url", "https://hub.invalid"]);
}

/// The kernel does not end the first process of a container by a signal that it does not handle
/// (`pid_namespaces(7)`).
#[test]
#[ignore = "needs root: makes a namespace of processes"]
fn the_first_process_of_a_container_ends_by_a_signal() {
    needs_root();
    let enrol = ["enrol", "--wait", "10m", "--hub-url", "https://127.0.0.1:1"];
    // A LyftData worker enrols, and ends: it is the container's program.
    let worker = ["run", "worker", "--worker-name", "w"];
    for (arguments, signal, code) in [
        (&enrol[..], Signal::SIGTERM, 143),
        (&enrol[..], Signal::SIGINT, 130),
        (&worker[..], Signal::SIGTERM, 143),
        (&worker[..], Signal::SIGINT, 130),
    ] {
        let host = TestHost::new();
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--kill-child"]);
        let agent = host
            .agent(arguments)
            .env("MONSYS_TOKEN", "enrl_x")
            .env("LYFTDATA_URL", "https://127.0.0.1:1")
            .env("LYFTDATA_AUTO_ENROLLMENT_KEY", "k");
        let unshared = agent.under(&mut unshare).start();
        let children = format!("/proc/{0}/task/{0}/children", unshared.id());
        let mut first = None;
        until("the handler of the signal", || {
            let text = fs::read_to_string(&children).unwrap_or_default();
            first = text.trim().parse::<i32>().ok();
            first.is_some_and(|process| handles(process, signal))
        });
        kill(Pid::from_raw(first.unwrap()), signal).unwrap();
        let run = Run::of(unshared).expect(code);
        run.expect_stderr(&[signal.as_str(), "the same command completes"]);
    }
}

/// Returns whether the process has a handler for the signal.
fn handles(process: i32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & (1 << (signal as i32 - 1)) != 0)
}
