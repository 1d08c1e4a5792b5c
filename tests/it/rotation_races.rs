//! `rotate-key` beside the service of the same host: in any order, the new key wins.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::common::{Run, TestHost, TestHub, needs_root, until};

const KEY: &str = "var/lib/monsys/agent-signing.key";

fn enrolled(hub: &TestHub) -> (TestHost, String) {
    let host = TestHost::new();
    host.enrol(hub, &hub.token()).run().expect(0);
    let id = host.key("agent_id").unwrap();
    (host, id)
}

fn unpin(hub: &TestHub, id: &str) {
    hub.post(&format!("agents/{id}/rotate-signing-key"), json!({}));
}

fn last_heartbeat(hub: &TestHub) -> serde_json::Value {
    hub.agents()[0]["last_heartbeat"]["captured_at"].clone()
}

/// Returns whether a process has a file or folder open.
fn has_open(process: u32, path: &Path) -> bool {
    let path = fs::canonicalize(path).unwrap();
    fs::read_dir(format!("/proc/{process}/fd"))
        .into_iter()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .any(|open| open == path)
}

#[track_caller]
fn expect_rotated(hub: &TestHub, host: &TestHost, before: &[u8]) {
    assert_ne!(fs::read(host.path(KEY)).unwrap(), before);
    assert_eq!(hub.get("integrity")["anomalies"], json!([]));
    hub.expect_one_slot();
}

/// The operator unpins the key, and the service restarts at once, for example for an update.
#[test]
fn a_service_that_was_just_started_does_not_pin_the_old_key() {
    let hub = TestHub::new();
    let (host, id) = enrolled(&hub);
    let before = fs::read(host.path(KEY)).unwrap();
    unpin(&hub, &id);
    // The next registration takes long, by any process.
    hub.fault(json!({"route": "register", "delay_ms": 300}));
    let service = host.service();
    until("a heartbeat", || last_heartbeat(&hub).is_string());
    host.agent(&["rotate-key"]).run().expect(0);
    service.signal(Signal::SIGHUP);
    let taken = last_heartbeat(&hub);
    until("a heartbeat with the new key", || {
        last_heartbeat(&hub) != taken
    });
    service.stop().expect(0);
    expect_rotated(&hub, &host, &before);
}

/// A heartbeat is in flight when `rotate-key` starts, and the service would register right after it.
#[test]
#[ignore = "needs root: reads the open files of a process that is not dumpable"]
fn a_rotation_that_waits_for_a_heartbeat_goes_before_the_next_registration() {
    needs_root();
    let hub = TestHub::new();
    let (host, id) = enrolled(&hub);
    let before = fs::read(host.path(KEY)).unwrap();
    let service = host.service();
    until("a heartbeat", || last_heartbeat(&hub).is_string());
    hub.fault(json!({"route": "heartbeat", "delay_ms": 1000}));
    // The service reads its files again and registers after the next heartbeat.
    service.signal(Signal::SIGHUP);
    until("the heartbeat", || hub.get("faults")["faults"] == json!([]));
    service.signal(Signal::SIGSTOP);
    unpin(&hub, &id);
    let rotation = host.agent(&["rotate-key"]).start();
    let folder = host.path("var/lib/monsys");
    // Both are open at once: the rotation has the heartbeat lock and waits for the heartbeat.
    until("the rotation to wait", || {
        [&folder, &host.path(KEY)].map(|path| has_open(rotation.id(), path)) == [true; 2]
    });
    service.signal(Signal::SIGCONT);
    Run::of(rotation).expect(0);
    service.signal(Signal::SIGHUP);
    let taken = last_heartbeat(&hub);
    until("a heartbeat with the new key", || {
        last_heartbeat(&hub) != taken
    });
    service.stop().expect(0);
    expect_rotated(&hub, &host, &before);
}
