//! A trace of the system calls of the service: it writes only to `/run/monsys`.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::common::{Service, TestHost, TestHub, until};
use crate::privilege::has_heartbeat;

/// By a trace of system calls: the service opens no file for writing outside of `/run/monsys`, during an
/// enrolment by the step, heartbeats, a key rotation, an outage, an unpinning and an unenrolment.
#[test]
#[ignore = "needs root: gives files to other users"]
fn no_file_outside_of_run_is_opened_for_writing() {
    let hub = TestHub::new();
    let host = TestHost::with_service_user();
    host.enrol_with(&hub, "", &["--defer"]).run().expect(0);
    let step = host.agent(&["prepare"]).env("MONSYS_TOKEN", &hub.token());
    step.run().expect(0);
    let id = host.key("agent_id").unwrap();
    let trace = host.path("trace");
    let calls = "trace=%file,?open,?openat,?openat2,?creat,ftruncate,fchmod,fchown";
    // strace(1) needs the user's name; setpriv(1) accepts a number.
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-e", calls, "-o"])
        .arg(&trace)
        .args([
            "setpriv",
            "--reuid",
            "54321",
            "--regid",
            "54321",
            "--clear-groups",
        ]);
    let service = Service::of(
        host.agent(&["run"])
            .under(&mut strace)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    );
    until("a heartbeat", || has_heartbeat(&hub));
    let last = || hub.agents()[0]["last_heartbeat"]["captured_at"].clone();
    let child = || {
        let children = format!("/proc/{0}/task/{0}/children", service.id());
        let pid = fs::read_to_string(children).unwrap_or_default();
        nix::unistd::Pid::from_raw(pid.trim().parse().unwrap_or(0))
    };
    let agent = child();
    let poke = || nix::sys::signal::kill(agent, Signal::SIGHUP).unwrap();
    // The service registers the old key soon after its start, and may do so in between.
    until("a rotation of the key", || {
        hub.post(&format!("agents/{id}/rotate-signing-key"), json!({}));
        host.agent(&["rotate-key"]).run().code == 0
    });
    hub.fault(json!({"route": "heartbeat", "status": 503, "times": 2}));
    let before = last();
    until("a heartbeat after an outage", || {
        poke();
        last() != before
    });
    hub.post(&format!("agents/{id}/rotate-signing-key"), json!({}));
    let before = last();
    until("a heartbeat after an unpinning", || {
        poke();
        last() != before
    });
    host.agent(&["unenrol"]).run().expect(0);
    let ended = {
        poke();
        service.end()
    };
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    let trace = fs::read_to_string(&trace).unwrap();
    let run = host.path("run/monsys");
    let allowed = [run.to_str().unwrap(), "/dev/null"];
    let writes = [
        "O_WRONLY",
        "O_RDWR",
        "O_CREAT",
        "O_TRUNC",
        "unlink",
        "rename",
        "mkdir",
        "rmdir",
        "chmod",
        "chown",
        "symlink",
        "link(",
        "linkat(",
        "ftruncate",
        "mknod",
    ];
    let mut seen = 0;
    for line in trace
        .lines()
        .filter(|line| writes.iter().any(|word| line.contains(word)))
    {
        seen += 1;
        let is_allowed =
            allowed.iter().any(|path| line.contains(path)) || line.contains("readlink");
        assert!(is_allowed, "{line}");
    }
    assert!(
        seen > 3,
        "the trace has its notes at least: {seen}\n{trace}"
    );
}
