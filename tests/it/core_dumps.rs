//! No secret in memory is written to a core dump.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Prepared, TestHost, TestHub, needs_root, until};

const TOKEN: &str = "enrl_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefg";
/// The user `nobody`.
const NOBODY: u32 = 65534;

/// Starts `agent` without a limit on core dumps.
fn start(agent: Prepared) -> Child {
    let line = format!("ulimit -c unlimited && exec {}", agent.line());
    agent
        .instead(Command::new("sh").args(["-c", &line]))
        .start()
}

/// Returns a run that has the token and waits for an unreachable hub.
fn waiting(host: &TestHost) -> Prepared {
    host.agent(&["enrol", "--hub-url", "http://127.0.0.1:9"])
        .env("MONSYS_TOKEN", TOKEN)
}

/// Waits until the shell has executed the agent, and the agent has sent its first request.
fn has_begun(child: &Child, host: &TestHost) {
    // Readable by every user, even for a process that is not dumpable: proc(5).
    let name = format!("/proc/{}/comm", child.id());
    until("the first request", || {
        let is_agent = fs::read_to_string(&name).is_ok_and(|name| name == "monsys-agent\n");
        is_agent && host.path("var/lib/monsys/agent-signing.key").exists()
    });
}

fn core_limits(pid: u32) -> Vec<String> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"));
    let words = line.unwrap().split_whitespace();
    words.map(str::to_owned).collect()
}

#[test]
fn an_aborted_run_dumps_no_core() {
    // The system has to dump another program.
    let folder = tempfile::tempdir().unwrap();
    let other = Command::new("sh")
        .args(["-c", "ulimit -c unlimited && kill -ABRT $$"])
        .current_dir(folder.path())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(
        other.core_dumped(),
        "this test needs a system that dumps core: raise the hard limit (ulimit -Hc), and see /proc/sys/kernel/core_pattern"
    );
    // The standard library's handler ignores a SIGSEGV that was sent by kill(2).
    for signal in [Signal::SIGABRT, Signal::SIGQUIT, Signal::SIGTRAP] {
        let host = TestHost::new();
        let mut child = start(waiting(&host));
        has_begun(&child, &host);
        assert_eq!(core_limits(child.id()), ["0", "0", "bytes"]);
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(signal as i32));
        assert!(!status.core_dumped());
        for (path, bytes) in host.files("") {
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(TOKEN), "{}", path.display());
        }
    }
}

#[test]
#[ignore = "needs root: runs the agent as another user"]
fn the_process_is_not_dumpable_and_still_works() {
    needs_root();
    let hub = TestHub::new();
    let host = TestHost::new();
    for folder in ["etc/monsys", "var/lib/monsys", "run/monsys"] {
        fs::create_dir_all(host.path(folder)).unwrap();
        std::os::unix::fs::chown(host.path(folder), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut child = waiting(&host).by_user(NOBODY).start();
    has_begun(&child, &host);
    // The kernel makes root the owner of these files if the process is not dumpable: proc(5).
    let owner = |name| fs::metadata(format!("/proc/{}/{name}", child.id())).map(|m| m.uid());
    assert_eq!(owner("environ").unwrap(), 0);
    assert_eq!(owner("status").unwrap(), 0);
    for name in ["environ", "maps", "auxv"] {
        let read = Command::new("setpriv")
            .args([
                "--reuid",
                "65534",
                "--regid",
                "65534",
                "--clear-groups",
                "cat",
            ])
            .arg(format!("/proc/{}/{name}", child.id()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(!read.success(), "{name}");
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let enrolled = host.enrol(&hub, &hub.token()).by_user(NOBODY).run();
    enrolled.expect(0);
    let service = host.agent(&["run"]).by_user(NOBODY).start();
    let pid = service.id();
    let health = host.path("run/monsys/heartbeat.json");
    until("a heartbeat", || {
        fs::read_to_string(&health).is_ok_and(|text| text.contains("last_heartbeat\":\""))
    });
    assert_eq!(core_limits(pid), ["0", "0", "bytes"]);
    assert_eq!(
        fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid(),
        0
    );
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGTERM).unwrap();
    crate::common::Run::of(service).expect(0);
}

#[test]
#[ignore = "needs root: runs the agent as another user"]
fn the_process_is_not_dumpable_after_it_has_re_executed_itself() {
    needs_root();
    let host = TestHost::new();
    std::os::unix::fs::chown(host.path(""), Some(NOBODY), Some(NOBODY)).unwrap();
    fs::create_dir_all(host.path("etc/mimir")).unwrap();
    std::os::unix::fs::chown(host.path("etc/mimir"), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut child = host
        .agent(&[
            "enrol",
            "--hub-url",
            "https://127.0.0.1:9",
            "--enrollment-secret=s3cret-of-the-fleet",
        ])
        .by_user(NOBODY)
        .start();
    until("the first request", || {
        host.path("etc/mimir/client.key").exists()
    });
    let cmdline = fs::read_to_string(format!("/proc/{}/cmdline", child.id())).unwrap();
    assert!(!cmdline.contains("enrollment-secret"), "{cmdline}");
    assert_eq!(
        fs::metadata(format!("/proc/{}/environ", child.id()))
            .unwrap()
            .uid(),
        0
    );
    assert_eq!(core_limits(child.id()), ["0", "0", "bytes"]);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_token_command_dumps_no_core() {
    let host = TestHost::new();
    let command = "ulimit -c >soft; ulimit -Hc >hard; exit 1";
    host.agent(&["enrol", "--wait", "0s", "--token-command", command])
        .run()
        .expect(74);
    for name in ["soft", "hard"] {
        assert_eq!(fs::read_to_string(host.path(name)).unwrap(), "0\n");
    }
}
