//! The privileged step (`prepare`), run by root, and the service, run by its user, which writes only
//! `/run/monsys`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::common::{SERVICE_USER, Service, TestHost, TestHub, needs_root, until};

/// Path, owner, group and mode of every file of an enrolment (contract, section 5).
const OWNED: [(&str, u32, u32, u32); 7] = [
    ("etc/monsys", 0, 0, 0o755),
    ("etc/monsys/agent.toml", 0, SERVICE_USER, 0o640),
    ("var/lib/monsys", 0, SERVICE_USER, 0o750),
    ("var/lib/monsys/agent-signing.key", 0, SERVICE_USER, 0o640),
    ("var/lib/monsys/agent-id", 0, 0, 0o644),
    ("var/lib/monsys/state.json", 0, SERVICE_USER, 0o640),
    ("var/lib/monsys/lock", 0, 0, 0o600),
];

#[track_caller]
fn expect_owned(host: &TestHost) {
    for (path, uid, gid, mode) in OWNED {
        let there = fs::symlink_metadata(host.path(path)).unwrap();
        let is = (there.uid(), there.gid(), there.mode() & 0o7777);
        assert_eq!(is, (uid, gid, mode), "{path}");
    }
}

fn enrolled(hub: &TestHub) -> TestHost {
    let host = TestHost::with_service_user();
    host.enrol(hub, &hub.token()).run().expect(0);
    host
}

fn prepare(host: &TestHost) -> Value {
    host.agent(&["prepare", "--output", "json"])
        .run()
        .expect(0)
        .json()
}

fn has_heartbeat(hub: &TestHub) -> bool {
    hub.agents()
        .first()
        .is_some_and(|agent| agent["last_heartbeat"]["captured_at"].is_string())
}

/// Returns path, owner, mode, inode, change time and content of every file outside `/run`.
fn outside_of_run(host: &TestHost) -> Vec<(PathBuf, [u64; 5], Vec<u8>)> {
    let files = ["etc", "var"].map(|folder| host.files(folder));
    let files = files.into_iter().flatten();
    files
        .map(|(path, bytes)| {
            let there = fs::symlink_metadata(&path).unwrap();
            let time = u64::try_from(there.ctime_nsec()).unwrap();
            let of = [
                u64::from(there.uid()),
                u64::from(there.gid()),
                u64::from(there.mode()),
                there.ino(),
                time,
            ];
            (path, of, bytes)
        })
        .collect()
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn root_owns_every_file_and_the_service_reads_what_it_needs() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    expect_owned(&host);
    assert_eq!(prepare(&host)["result"], "ready");
    expect_owned(&host);
    let before = outside_of_run(&host);
    let service = host.unprivileged_service();
    until("a heartbeat", || has_heartbeat(&hub));
    let status = || host.agent(&["status", "--output", "json"]).run().json();
    until("its note", || status()["heartbeats"] == "ok");
    service.stop().expect(0);
    assert_eq!(outside_of_run(&host), before, "the service wrote something");
    assert_eq!(status()["heartbeats"], "stopped");
    hub.expect_one_slot();
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn the_service_sends_nothing_before_the_step_of_this_boot() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let run = || host.agent(&["run"]).by_user(SERVICE_USER).run();
    run()
        .expect(85)
        .expect_stderr(&["privileged step", "no step is recorded"]);
    prepare(&host);
    // As after a reboot, and on another machine with the same disk.
    let path = host.path("var/lib/monsys/state.json");
    let good = fs::read_to_string(&path).unwrap();
    let mut state: Value = serde_json::from_str(&good).unwrap();
    state["step"]["boot_id"] = json!("another");
    fs::write(&path, state.to_string()).unwrap();
    run()
        .expect(85)
        .expect_stderr(&["in another boot or on another machine"]);
    let mut state: Value = serde_json::from_str(&good).unwrap();
    state["step"]["machine"] = json!({ "machine_id": "another" });
    fs::write(&path, state.to_string()).unwrap();
    run()
        .expect(85)
        .expect_stderr(&["in another boot or on another machine"]);
    assert!(!has_heartbeat(&hub));
}

/// `ProtectProc=` of the unit gives the service a separate `/proc`. If a file is mounted over the boot id, as in
/// a container of systemd-nspawn, the step and the service read different ids.
#[test]
#[ignore = "needs root: gives files to other users"]
fn a_private_proc_does_not_hide_the_step_from_the_service() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let other = host.write_file("other-boot", "01234567-89ab-cdef-0123-456789abcdef\n");
    let mounted = format!(
        "mount --bind {} /proc/sys/kernel/random/boot_id && exec \"$@\"",
        other.display()
    );
    let mut unshare = Command::new("/usr/bin/unshare");
    unshare.args(["--mount", "/bin/sh", "-c", &mounted, "sh"]);
    let prepare = host.agent(&["prepare"]).under(&mut unshare);
    prepare
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .run()
        .expect(0);
    let service = host.unprivileged_service();
    until("a heartbeat", || has_heartbeat(&hub));
    service.stop().expect(0);
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn the_service_exits_with_the_failure_of_the_step() {
    let hub = TestHub::new();
    let host = TestHost::with_service_user();
    let report = prepare(&host);
    assert_eq!(report["result"], "failed");
    assert_eq!(report["service_exit_code"], 78);
    assert_eq!(report["failure"]["id"], "not-enrolled");
    let run = || host.agent(&["run"]).by_user(SERVICE_USER).run();
    run()
        .expect(78)
        .expect_stderr(&["not enrolled", "monsys-agent enrol"]);
    // The stored failure is not an identity: the host can still become an image.
    host.agent(&["enrol", "--defer"]).run().expect(0);
    host.enrol(&hub, &hub.token()).run().expect(0);
    assert_eq!(prepare(&host)["result"], "ready");
    let service = host.unprivileged_service();
    until("a heartbeat", || has_heartbeat(&hub));
    service.stop().expect(0);
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn an_unreachable_hub_is_retried_after_a_pause_or_a_change() {
    let hub = TestHub::new();
    let host = TestHost::with_service_user();
    host.write_file("run/token", &hub.token());
    host.enrol_with(&hub, "", &["--defer"]).run().expect(0);
    let config = host.agent_toml();
    let text = format!("{config}token_file = '/run/token'\nwait = '0s'\n");
    fs::write(host.path("etc/monsys/agent.toml"), &text).unwrap();
    hub.fault(json!({"route": "enrol", "reset": "before", "times": 1}));
    let first = prepare(&host);
    assert_eq!(first["service_exit_code"], 69, "{first}");
    host.agent(&["run"]).by_user(SERVICE_USER).run().expect(69);
    // The hub is reachable again but gets no request: restarts of a fleet must not add up.
    let second = prepare(&host);
    assert_eq!(second, first);
    assert!(hub.agents().is_empty());
    // An operator has changed the configuration.
    let change = || {
        fs::write(
            host.path("etc/monsys/agent.toml"),
            format!("{text}# changed\n"),
        )
        .unwrap();
        prepare(&host)["result"] == "ready"
    };
    until("the file system's clock to go on", change);
    hub.expect_one_slot();
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn the_step_enrols_a_prepared_image_and_the_service_never_gets_the_token() {
    let hub = TestHub::new();
    let host = TestHost::with_service_user();
    let token = hub.token();
    host.enrol_with(&hub, "", &["--defer"]).run().expect(0);
    let report = host
        .agent(&["prepare", "--output", "json"])
        .env("MONSYS_TOKEN", &token)
        .run()
        .expect(0);
    assert_eq!(report.json()["result"], "ready");
    expect_owned(&host);
    let service = host.unprivileged_service();
    until("a heartbeat", || has_heartbeat(&hub));
    service.stop().expect(0);
    hub.expect_one_slot();
    for (path, bytes) in host.files("") {
        let has_token = bytes
            .windows(token.len())
            .any(|part| part == token.as_bytes());
        assert!(!has_token, "{}", path.display());
    }
}

/// If one user runs everything, `run` does the step itself and re-executes itself.
#[test]
#[ignore = "needs root: reads the memory of a process that is not dumpable"]
fn a_container_enrols_and_clears_the_token_from_memory() {
    needs_root();
    let hub = TestHub::new();
    let host = TestHost::new();
    let token = hub.token();
    host.enrol_with(&hub, "", &["--defer"]).run().expect(0);
    let service = Service::of(host.agent(&["run"]).env("MONSYS_TOKEN", &token));
    until("a heartbeat", || has_heartbeat(&hub));
    let process = Path::new("/proc").join(service.id().to_string());
    let environment = fs::read(process.join("environ")).unwrap();
    let has_token = |bytes: &[u8]| {
        bytes
            .windows(token.len())
            .any(|part| part == token.as_bytes())
    };
    assert!(!has_token(&environment));
    let arguments = fs::read(process.join("cmdline")).unwrap();
    assert!(String::from_utf8_lossy(&arguments).contains("--prepared"));
    // Its memory as well, as far as the kernel lets root read it.
    let maps = fs::read_to_string(process.join("maps")).unwrap();
    let memory = fs::File::open(process.join("mem")).unwrap();
    let mut searched = 0;
    for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (from, to) = (
            u64::from_str_radix(from, 16).unwrap(),
            u64::from_str_radix(to, 16).unwrap(),
        );
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        if std::os::unix::fs::FileExt::read_exact_at(&memory, &mut bytes, from).is_ok() {
            assert!(!has_token(&bytes), "{line}");
            searched += 1;
        }
    }
    assert!(searched > 2, "{maps}");
    service.signal(Signal::SIGTERM);
    service.end().expect(0);
    hub.expect_one_slot();
}

/// As in `OpenRC`: one command, which drops its privileges.
#[test]
#[ignore = "needs root: gives files to other users"]
fn one_command_runs_the_step_as_root_and_the_service_as_its_user() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let service = Service::of(host.agent(&["run", "--user", "monsys"]));
    until("a heartbeat", || has_heartbeat(&hub));
    let process = Path::new("/proc").join(service.id().to_string());
    let status = fs::read_to_string(process.join("status")).unwrap();
    let numbers = |name: &str| -> Vec<String> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    for name in ["Uid:", "Gid:"] {
        assert_eq!(numbers(name), vec![SERVICE_USER.to_string(); 4], "{name}");
    }
    assert_eq!(numbers("Groups:"), Vec::<String>::new());
    service.stop().expect(0);
    host.agent(&["run", "--user", "nobody-here"])
        .run()
        .expect(64)
        .expect_stderr(&["nobody-here"]);
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn the_step_completes_an_interrupted_rotation() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    prepare(&host);
    let id = host.key("agent_id").unwrap();
    hub.post(&format!("agents/{id}/rotate-signing-key"), json!({}));
    hub.fault(json!({"route": "register", "reset": "after", "times": 1}));
    host.agent(&["rotate-key", "--wait", "0"]).run().expect(69);
    let before = outside_of_run(&host);
    host.agent(&["run"])
        .by_user(SERVICE_USER)
        .run()
        .expect(85)
        .expect_stderr(&["a rotation of the key was interrupted"]);
    assert_eq!(outside_of_run(&host), before);
    // While the hub is unreachable, neither key is used.
    hub.fault(json!({"route": "register", "status": 503, "times": 1}));
    assert_eq!(prepare(&host)["service_exit_code"], 69);
    host.agent(&["run"]).by_user(SERVICE_USER).run().expect(69);
    host.agent(&["rotate-key"]).run().expect(0);
    assert_eq!(prepare(&host)["result"], "ready");
    // The repeated step may have sent one too.
    let captured_at = || hub.agents()[0]["last_heartbeat"]["captured_at"].clone();
    let before = captured_at();
    let service = host.unprivileged_service();
    until("a heartbeat of the service", || captured_at() != before);
    service.stop().expect(0);
    expect_owned(&host);
    assert_eq!(hub.get("integrity")["anomalies"], json!([]));
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn the_step_shares_older_files_with_the_service_group() {
    needs_root();
    let hub = TestHub::new();
    let host = TestHost::new();
    host.enrol(&hub, &hub.token()).run().expect(0);
    let late = TestHost::with_service_user();
    for file in ["etc/passwd", "etc/group"] {
        fs::copy(late.path(file), host.path(file)).unwrap();
    }
    assert_eq!(prepare(&host)["result"], "ready");
    expect_owned(&host);
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn the_step_adds_facts_that_only_root_can_read() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let path = host.path("var/lib/monsys/state.json");
    let state = || serde_json::from_str::<Value>(&fs::read_to_string(&path).unwrap()).unwrap();
    let complete = state()["fingerprint"].clone();
    // The instance id was unknown at the enrolment.
    host.write_file("run/cloud-init/.instance-id", "i-0123456789\n");
    prepare(&host);
    let filled = state()["fingerprint"].clone();
    assert!(complete["instance_id"].is_null() && filled["instance_id"].is_string());
    assert_eq!(filled["machine_id"], complete["machine_id"]);
}

/// An unwritable disk does not stop a host with a credential, and neither does a record that an earlier boot
/// wrote with a wrong clock.
#[test]
#[ignore = "needs root: gives files to other users"]
fn an_unwritable_disk_does_not_fail_the_step() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    prepare(&host);
    let path = host.path("var/lib/monsys/state.json");
    let mut state: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    state["step"]["boot_id"] = json!("earlier");
    state["step"]["at"] = json!("9999-01-01T00:00:00Z");
    fs::write(&path, state.to_string()).unwrap();
    // Facts are missing, and the lock cannot be taken.
    host.write_file("run/cloud-init/.instance-id", "i-0123456789\n");
    fs::remove_file(host.path("var/lib/monsys/lock")).unwrap();
    fs::create_dir(host.path("var/lib/monsys/lock")).unwrap();
    assert_eq!(prepare(&host)["result"], "deferred");
    let service = host.unprivileged_service();
    until("a heartbeat", || has_heartbeat(&hub));
    service.stop().expect(0);
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn a_lock_of_the_service_does_not_block_an_unenrolment_by_root() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let folder = fs::File::open(host.path("var/lib/monsys")).unwrap();
    folder.lock_shared().unwrap();
    let run = host.agent(&["unenrol", "--force"]).run().expect(0);
    drop(folder);
    assert!(hub.agents().is_empty(), "{}", run.stderr);
}

/// A failing step would be repeated without end: the rules for permanent failures apply only to `run`.
#[test]
#[ignore = "needs root: gives files to other users"]
fn a_wrong_setting_fails_the_service_and_not_the_step() {
    let host = TestHost::with_service_user();
    for (arguments, code) in [(["prepare"], 0), (["run"], 64)] {
        let run = host.agent(&arguments).env("MONSYS_DIALECT", "monsis").run();
        run.expect(code).expect_stderr(&["MONSYS_DIALECT"]);
    }
}

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
