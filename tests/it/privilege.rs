//! The privileged step (`prepare`), run by root: owners of the files, and what the step completes, adds and
//! tolerates.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::{SERVICE_USER, TestHost, TestHub, needs_root, until};

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
pub(crate) fn expect_owned(host: &TestHost) {
    for (path, uid, gid, mode) in OWNED {
        let there = fs::symlink_metadata(host.path(path)).unwrap();
        let is = (there.uid(), there.gid(), there.mode() & 0o7777);
        assert_eq!(is, (uid, gid, mode), "{path}");
    }
}

pub(crate) fn enrolled(hub: &TestHub) -> TestHost {
    let host = TestHost::with_service_user();
    host.enrol(hub, &hub.token()).run().expect(0);
    host
}

pub(crate) fn prepare(host: &TestHost) -> Value {
    host.agent(&["prepare", "--output", "json"])
        .run()
        .expect(0)
        .json()
}

pub(crate) fn has_heartbeat(hub: &TestHub) -> bool {
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
