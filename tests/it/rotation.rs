//! `rotate-token` and `rotate-key`: the old credential is removed only after the hub has accepted the new one.

use std::fs;

use mock_hub::Options;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::common::{Run, TestHost, TestHub, until};

const KEY: &str = "var/lib/monsys/agent-signing.key";

/// Starts a hub with an interval of a second, so a service registers with its second heartbeat.
fn quick_hub() -> TestHub {
    TestHub::with(Options {
        heartbeat_interval_secs: 1,
        ..Options::default()
    })
}

fn enrolled(hub: &TestHub) -> (TestHost, String) {
    let host = TestHost::new();
    host.enrol(hub, &hub.token()).run().expect(0);
    let id = host.key("agent_id").unwrap();
    (host, id)
}

/// Rotates the token of an agent, as the operator does.
fn new_token(hub: &TestHub, id: &str) -> String {
    let rotated = hub.post(&format!("agents/{id}/rotate-token"), json!({}));
    rotated["token"].as_str().unwrap().to_owned()
}

fn unpin(hub: &TestHub, id: &str) {
    hub.post(&format!("agents/{id}/rotate-signing-key"), json!({}));
}

fn rotate_token(host: &TestHost, token: &str) -> Run {
    host.agent(&["rotate-token", "--token-file", "-", "--output", "json"])
        .stdin(format!("{token}\n").as_bytes())
        .run()
}

fn key(host: &TestHost) -> Vec<u8> {
    fs::read(host.path(KEY)).unwrap()
}

/// Waits for a heartbeat of the service.
#[track_caller]
fn expect_heartbeat(hub: &TestHub, host: &TestHost) {
    let last = || hub.agents()[0]["last_heartbeat"]["captured_at"].clone();
    let before = last();
    let service = host.service();
    until("a heartbeat", || last() != before);
    service.stop().expect(0);
}

#[track_caller]
fn expect_no_waiting_key(host: &TestHost) {
    let names = host.names("var/lib/monsys");
    assert!(
        !names.iter().any(|name| name.contains(".next")),
        "{names:?}"
    );
}

#[test]
fn a_new_token_is_verified_and_then_replaces_the_old_one() {
    let hub = TestHub::new();
    let (host, id) = enrolled(&hub);
    let text = format!("# mine\n{}extra = 1 # kept\n", host.agent_toml());
    host.write_file("etc/monsys/agent.toml", &text);
    let token = new_token(&hub, &id);
    let json = rotate_token(&host, &token).expect(0).json();
    assert_eq!(
        (&json["result"], &json["changed"]),
        (&json!("token_rotated"), &json!(true))
    );
    assert!(!json.to_string().contains("agt_"));
    assert_eq!(host.key("agent_token").unwrap(), token);
    let text = host.agent_toml();
    assert!(
        text.starts_with("# mine\n") && text.contains("extra = 1 # kept\n"),
        "{text}"
    );
    assert_eq!(host.mode("etc/monsys/agent.toml"), 0o600);
    expect_heartbeat(&hub, &host);
    assert_eq!(
        rotate_token(&host, &token).expect(0).json()["changed"],
        false
    );
}

#[test]
fn a_token_that_the_hub_rejects_changes_nothing() {
    let hub = TestHub::new();
    let (host, _) = enrolled(&hub);
    let before = host.files("");
    let unchanged = || {
        let mut now = host.files("");
        now.retain(|(path, _)| !path.ends_with("lock"));
        let mut then = before.clone();
        then.retain(|(path, _)| !path.ends_with("lock"));
        assert_eq!(now, then);
    };
    rotate_token(&host, "agt_wrong")
        .expect(77)
        .expect_stderr(&["does not know this per-agent token"]);
    unchanged();
    rotate_token(&host, &hub.token())
        .expect(64)
        .expect_stderr(&["enrolment token", "enrol --force"]);
    unchanged();
    // A token of another agent, with and without its own key.
    let (other, _) = hub.per_agent_token(json!({}));
    rotate_token(&host, &other).expect(65);
    unchanged();
    let (_, id) = enrolled(&hub);
    rotate_token(&host, &new_token(&hub, &id)).expect(77);
    unchanged();
    host.agent(&["rotate-token"])
        .run()
        .expect(64)
        .expect_stderr(&["no token was given", "rotate-token --token-file -"]);
    hub.fault(json!({"route": "register", "status": 503, "times": 1}));
    host.agent(&["rotate-token", "--wait", "0"])
        .env("MONSYS_TOKEN", "agt_x1")
        .run()
        .expect(69);
    unchanged();
}

/// Another implementation of the hub may not check the key. Then the agent has to check whose token it is.
#[test]
fn the_host_rejects_a_token_of_another_agent() {
    let hub = TestHub::new();
    let (host, id) = enrolled(&hub);
    let other = "00000000-0000-4000-8000-000000000000";
    let body = json!({"agent_id": other, "default_tags": [], "heartbeat_interval_secs": 30});
    hub.fault(json!({"route": "register", "status": 200, "body": body.to_string(), "times": 1}));
    let before = host.agent_toml();
    let run = rotate_token(&host, "agt_another").expect(65);
    run.expect_stderr(&[other, &id, "nothing was changed"]);
    assert_eq!(host.agent_toml(), before);
}

#[test]
fn a_new_key_is_accepted_after_the_old_one_is_unpinned() {
    let hub = quick_hub();
    let (host, id) = enrolled(&hub);
    let before = key(&host);
    // After the service has pinned its key, it does not pin the old one later.
    let pinned = || hub.agents()[0]["signing_pubkey"].clone();
    let old = pinned();
    unpin(&hub, &id);
    let service = host.service();
    until("its registration", || pinned() == old);
    let last = || hub.agents()[0]["last_heartbeat"]["captured_at"].clone();
    unpin(&hub, &id);
    let run = host
        .agent(&["rotate-key", "--output", "json"])
        .run()
        .expect(0);
    assert_eq!(run.json()["changed"], true);
    assert_ne!(key(&host), before);
    expect_no_waiting_key(&host);
    let taken = last();
    service.signal(Signal::SIGHUP);
    until("a heartbeat with the new key", || last() != taken);
    service.stop().expect(0);
    assert_eq!(hub.get("integrity")["anomalies"], json!([]));
    assert_eq!(host.mode(KEY), 0o600);
    hub.expect_one_slot();
}

#[test]
fn a_pinned_key_is_not_replaced() {
    let hub = TestHub::new();
    let (host, id) = enrolled(&hub);
    let before = key(&host);
    host.agent(&["rotate-key"])
        .run()
        .expect(77)
        .expect_stderr(&[
            "has the current key pinned",
            &format!("agents/{id}/rotate-signing-key"),
        ]);
    assert_eq!(key(&host), before);
    expect_no_waiting_key(&host);
    let run = host.agent(&["enrol", "--output", "json"]).run().expect(0);
    assert_eq!(run.json()["changed"], false);
    expect_heartbeat(&hub, &host);
}

/// The hub has the new key, and the host does not know: the next command finds out.
#[test]
fn a_lost_response_leaves_a_working_host() {
    for next in ["run", "rotate-key", "enrol", "rotate-token"] {
        let hub = TestHub::new();
        let (host, id) = enrolled(&hub);
        let before = key(&host);
        unpin(&hub, &id);
        hub.fault(json!({"route": "register", "reset": "after", "times": 1}));
        host.agent(&["rotate-key", "--wait", "0"]).run().expect(69);
        assert_eq!(
            key(&host),
            before,
            "the old key stays until the new one is accepted"
        );
        let status = host.agent(&["status", "--output", "json"]).run().expect(0);
        assert_eq!(status.json()["rotating_key"], true);
        match next {
            "run" => {}
            "rotate-token" => {
                let token = new_token(&hub, &id);
                rotate_token(&host, &token).expect(0);
            }
            _ => {
                host.agent(&[next]).run().expect(0);
            }
        }
        expect_heartbeat(&hub, &host);
        assert_ne!(key(&host), before, "{next}");
        expect_no_waiting_key(&host);
        assert_eq!(hub.get("integrity")["anomalies"], json!([]), "{next}");
        hub.expect_one_slot();
    }
}

/// The request never reached the hub, and the old key is pinned: the next command finds out.
#[test]
fn a_lost_request_without_an_unpinning_keeps_the_old_key() {
    for next in ["run", "rotate-key", "rotate-token"] {
        let hub = TestHub::new();
        let (host, id) = enrolled(&hub);
        let before = key(&host);
        hub.fault(json!({"route": "register", "reset": "before", "times": 1}));
        host.agent(&["rotate-key", "--wait", "0"]).run().expect(69);
        match next {
            "rotate-key" => {
                host.agent(&[next]).run().expect(77);
            }
            "rotate-token" => {
                let token = new_token(&hub, &id);
                rotate_token(&host, &token).expect(0);
            }
            _ => {}
        }
        expect_heartbeat(&hub, &host);
        assert_eq!(key(&host), before, "{next}");
        expect_no_waiting_key(&host);
    }
}

#[test]
fn the_service_registers_its_key_at_a_hub_that_lost_the_pin() {
    let hub = quick_hub();
    let (host, id) = enrolled(&hub);
    let pinned = || hub.agents()[0]["signing_pubkey"].clone();
    let before = pinned();
    unpin(&hub, &id);
    assert!(pinned().is_null());
    let service = host.service();
    until("the pin", || pinned() == before);
    service.stop().expect(0);
}

#[test]
fn rotation_is_rejected_on_a_clone_and_an_unenrolled_host() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    rotate_token(&host, "agt_x1").expect(78);
    host.agent(&["rotate-key"]).run().expect(78);
    let (original, id) = enrolled(&hub);
    let clone = original.copy();
    clone.write_file("etc/machine-id", "fedcba9876543210fedcba9876543210\n");
    unpin(&hub, &id);
    clone
        .agent(&["rotate-key"])
        .run()
        .expect(78)
        .expect_stderr(&["cloned from"]);
    original.agent(&["rotate-key"]).run().expect(0);
}

/// The promise of the security document: the token alone is useless.
#[test]
fn a_stolen_token_without_the_key_cannot_send_heartbeats() {
    let hub = TestHub::new();
    let (host, id) = enrolled(&hub);
    let token = host.key("agent_token").unwrap();
    let ca_file = hub.ca_file().unwrap();
    let heartbeat = json!({
        "captured_at": humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        "agent_version": "9.9.9", "cpu_usage": 1.0, "interfaces": [],
    });
    let push = |method: &str, path: &str, body: &str, more: &[&str]| {
        let output = std::process::Command::new("curl")
            .args([
                "--silent",
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code}",
            ])
            .args(["--noproxy", "*", "--request", method, "--data", body])
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .args(["--header", "Content-Type: application/json"])
            .args(more)
            .arg("--cacert")
            .arg(&ca_file)
            .arg(format!("{}/api/v1/agents/{path}", hub.url()))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let body = heartbeat.to_string();
    let path = format!("{id}/heartbeat");
    let forged = "X-Monsys-Signature: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";
    assert_eq!(push("POST", &path, &body, &[]), "403", "unsigned");
    assert_eq!(push("POST", &path, &body, &["--header", forged]), "403");
    assert_eq!(push("DELETE", &id, "", &[]), "403");
    let agent = hub.agents()[0].clone();
    assert!(agent["last_heartbeat"].is_null(), "{agent}");
    let anomalies = hub.get("integrity")["anomalies"].clone();
    let kinds: Vec<&str> = anomalies
        .as_array()
        .unwrap()
        .iter()
        .map(|anomaly| anomaly["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["unsigned_payload", "signature_invalid"]);
    expect_heartbeat(&hub, &host);
}
