//! `--dialect mimir`: an enrollment secret becomes a client certificate.

use std::fs;
use std::path::Path;
use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{Prepared, TestHost, TestHub, until};

pub(crate) const FILES: [&str; 5] = [
    ".monsys-enrol.lock",
    "agent.json",
    "ca.pem",
    "client.key",
    "client.pem",
];

/// Mints a secret; returns it and its id.
pub(crate) fn mint(hub: &TestHub, max_uses: Option<u32>) -> (String, String) {
    let body = json!({"name": "datacenter-east", "max_uses": max_uses});
    let made = hub.post("mimir/enrollment-secrets", body);
    (text(&made["secret"]), text(&made["id"]))
}

/// Returns `enrol` on a host with only Mimir's variables.
pub(crate) fn enrol(host: &TestHost, hub: &TestHub, secret: &str) -> Prepared {
    on(host, hub, &["enrol"]).env("MIMIR_ENROLLMENT_SECRET", secret)
}

/// Returns a command on a host with the address of the server.
pub(crate) fn on(host: &TestHost, hub: &TestHub, arguments: &[&str]) -> Prepared {
    let ca_file = host.install_ca(hub).unwrap();
    host.agent(arguments)
        .env("MIMIR_SERVER_URL", &hub.url())
        .env("MONSYS_CA_FILE", ca_file.to_str().unwrap())
}

/// Returns a command on a host with only the dialect.
pub(crate) fn later(host: &TestHost, arguments: &[&str]) -> Prepared {
    host.agent(arguments).env("MONSYS_DIALECT", "mimir")
}

pub(crate) fn agents(hub: &TestHub) -> Vec<Value> {
    hub.get("mimir/agents")["agents"]
        .as_array()
        .unwrap()
        .clone()
}

/// Returns the column "Uses" of the first secret that is not revoked.
pub(crate) fn uses(hub: &TestHub) -> String {
    text(&hub.get("mimir/enrollment-secrets")["active"][0]["uses_text"])
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

pub(crate) fn file(host: &TestHost, name: &str) -> String {
    fs::read_to_string(host.path("etc/mimir").join(name)).unwrap()
}

#[test]
fn a_secret_becomes_a_certificate_and_is_stored_nowhere() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, Some(1));
    // With white space, as from a clipboard manager.
    let run = enrol(&host, &hub, &format!(" {secret}\n")).run().expect(0);
    assert!(run.stdout.starts_with("Enrolled web-3 at https://"));
    assert!(
        run.stdout
            .ends_with("Next: monsys-agent status --dialect mimir\n")
    );
    let agents = agents(&hub);
    assert_eq!((agents.len(), uses(&hub).as_str()), (1, "1 / 1"));
    assert_eq!(agents[0]["hostname"], "web-3");
    assert!(agents[0]["last_seen_at"].is_string(), "it was not proved");
    assert!(run.stdout.contains(agents[0]["agent_id"].as_str().unwrap()));

    assert_eq!(host.names("etc/mimir"), FILES);
    let modes =
        ["client.key", "client.pem", "ca.pem"].map(|it| host.mode(&format!("etc/mimir/{it}")));
    assert_eq!(modes, [0o600, 0o644, 0o644]);
    let folder = host.path("etc/mimir");
    openssl(
        &folder,
        &[
            "verify",
            "-purpose",
            "sslclient",
            "-CAfile",
            "ca.pem",
            "client.pem",
        ],
    );
    let public_keys = [
        openssl(&folder, &["pkey", "-in", "client.key", "-pubout"]),
        openssl(&folder, &["x509", "-in", "client.pem", "-noout", "-pubkey"]),
    ];
    assert_eq!(public_keys[0], public_keys[1]);
    for (path, bytes) in host.files("") {
        let has_secret = bytes
            .windows(secret.len())
            .any(|part| part == secret.as_bytes());
        assert!(!has_secret, "the secret is in {}", path.display());
    }

    // No setting is needed any more.
    let again = later(&host, &["enrol", "--output", "json"]).run().expect(0);
    assert_eq!(again.json()["confirmed"], true);
    hub.fault(json!({"route": "mimir-self", "status": 500}));
    let again = later(&host, &["enrol", "--output", "json"])
        .run()
        .expect(75);
    assert_eq!(again.json()["result"], "already_enrolled");
    assert_eq!(again.json()["confirmed"], false);
    assert_eq!(again.json()["agent_id"], agents[0]["agent_id"]);
    let status = later(&host, &["status", "--output", "json"])
        .run()
        .expect(0);
    assert_eq!(status.json()["agent_id"], agents[0]["agent_id"]);
    assert_eq!(status.json()["enrolled"], true);
}

/// Returns what openssl(1) prints in this folder.
#[track_caller]
pub(crate) fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("openssl is installed");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

#[test]
fn the_documented_argument_works_and_leaves_the_process_list() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, Some(1));
    hub.fault(json!({"route": "mimir-enroll", "delay_ms": 2_000}));
    let ca_file = host.install_ca(&hub).unwrap();
    let argument = format!("--enrollment-secret={secret}");
    let url = hub.url();
    let arguments = [
        "enrol",
        &argument,
        "--hub-url",
        &url,
        "--ca-file",
        ca_file.to_str().unwrap(),
    ];
    let child = host.agent(&arguments).start();
    until("the fault", || hub.get("faults")["faults"] == json!([]));
    let process = format!("/proc/{}", child.id());
    let command_line = fs::read_to_string(format!("{process}/cmdline")).unwrap();
    assert!(
        command_line.contains("enrol\0--hub-url"),
        "{command_line:?}"
    );
    assert!(!command_line.contains(&secret), "{command_line:?}");
    let run = crate::common::Run::of(child).expect(0);
    let run = run.expect_stderr(&["warning: --enrollment-secret", "MIMIR_ENROLLMENT_SECRET"]);
    assert!(!run.stderr.contains(&secret));
    assert_eq!(agents(&hub).len(), 1);
}

#[test]
fn the_documented_installation_selects_mimir() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let url = hub.url();
    let arguments = [
        "install",
        "--enrollment-secret=s3cret",
        "--dry-run",
        "--hub-url",
        &url,
    ];
    let run = host.agent(&arguments).run().expect(0);
    assert!(!run.stdout.contains("s3cret") && !run.stderr.contains("s3cret"));
    let without = [
        "install",
        "--enrollment-secret=",
        "--dry-run",
        "--hub-url",
        &url,
    ];
    let run = host.agent(&without).run().expect(64);
    run.expect_stderr(&["MIMIR_ENROLLMENT_SECRET"]);
}

#[test]
fn a_lost_response_uses_no_second_slot() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, Some(1));
    hub.fault(json!({"route": "mimir-enroll", "reset": "after"}));
    let run = enrol(&host, &hub, &secret).run().expect(0);
    run.expect_stderr(&["the response to the try before may have been lost"]);
    assert_eq!((agents(&hub).len(), uses(&hub).as_str()), (1, "1 / 1"));

    // The same in separate runs.
    let host = TestHost::new();
    let (secret, _) = mint(&hub, Some(1));
    hub.fault(json!({"route": "mimir-enroll", "reset": "after"}));
    enrol(&host, &hub, &secret)
        .env("MONSYS_WAIT", "0")
        .run()
        .expect(69);
    assert_eq!(
        host.names("etc/mimir"),
        [
            ".monsys-enrol.lock",
            "agent.json",
            "client.csr",
            "client.key"
        ]
    );
    assert_eq!(host.mode("etc/mimir/client.csr"), 0o600);
    let key = file(&host, "client.key");
    enrol(&host, &hub, &secret).run().expect(0);
    assert_eq!(file(&host, "client.key"), key);
    assert_eq!(agents(&hub).len(), 2);
}

#[test]
fn success_is_reported_after_the_certificate_was_verified() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, id) = mint(&hub, Some(1));
    hub.fault(json!({"route": "mimir-self", "status": 503, "times": 9}));
    enrol(&host, &hub, &secret)
        .env("MONSYS_WAIT", "0")
        .run()
        .expect(69);
    let status = later(&host, &["status", "--output", "json"])
        .run()
        .expect(78);
    assert_eq!(status.json()["state"], "unproved");
    hub.call(Method::DELETE, "faults", None);
    hub.post(&format!("mimir/enrollment-secrets/{id}/revoke"), json!({}));
    // The secret is not needed any more.
    later(&host, &["enrol"]).run().expect(0);
    later(&host, &["status"]).run().expect(0);
    assert_eq!(agents(&hub).len(), 1);
}

#[test]
fn a_server_without_the_call_that_proves_a_certificate_enrols() {
    for status in [404, 405, 501] {
        let (hub, host) = (TestHub::new(), TestHost::new());
        let (secret, _) = mint(&hub, Some(1));
        hub.fault(json!({"route": "mimir-self", "status": status, "times": 9}));
        let run = enrol(&host, &hub, &secret).run().expect(0);
        run.expect_stderr(&["does not have", "/api/v1/agent/self"]);
        later(&host, &["enrol"]).run().expect(0);
        let status = later(&host, &["status", "--output", "json"])
            .run()
            .expect(0);
        assert_eq!(status.json()["enrolled"], true);
        assert_eq!(uses(&hub), "1 / 1");
    }
}

#[test]
fn a_ca_outside_of_the_root_is_remembered() {
    let (hub, host, beside) = (TestHub::new(), TestHost::new(), TestHost::new());
    let (secret, _) = mint(&hub, Some(1));
    let ca_file = beside.install_ca(&hub).unwrap();
    let enrolling = enrol(&host, &hub, &secret).env("MONSYS_CA_FILE", ca_file.to_str().unwrap());
    enrolling.run().expect(0);
    fs::remove_file(host.path("etc/ssl/hub-ca.pem")).unwrap();
    later(&host, &["doctor"]).run().expect(0);
    fs::remove_file(ca_file).unwrap();
    let run = later(&host, &["run"]).run().expect(74);
    run.expect_stderr(&["`ca_file` in /etc/mimir/agent.json"]);
}

#[test]
fn enrolling_again_is_the_same_agent_with_a_fresh_certificate() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, Some(1));
    enrol(&host, &hub, &secret).run().expect(0);
    let before = [file(&host, "client.key"), file(&host, "client.pem")];
    let force = on(&host, &hub, &["enrol", "--force"]);
    force
        .env("MIMIR_ENROLLMENT_SECRET", &secret)
        .run()
        .expect(0);
    assert_eq!(file(&host, "client.key"), before[0]);
    assert_ne!(file(&host, "client.pem"), before[1]);
    assert_eq!((agents(&hub).len(), uses(&hub).as_str()), (1, "1 / 1"));
}

#[test]
fn an_unwritable_folder_is_reported_before_a_slot_is_used() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, Some(1));
    host.write_file("etc/mimir", "a file in the folder's place");
    enrol(&host, &hub, &secret).run().expect(73);
    assert_eq!(uses(&hub), "0 / 1");
    let elsewhere = host.path("srv/mimir");
    enrol(&host, &hub, &secret)
        .env("MIMIR_DIR", "/srv/mimir")
        .run()
        .expect(0);
    assert!(elsewhere.join("client.pem").exists());
}

#[test]
fn a_missing_or_misplaced_setting_is_a_usage_error() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, None);
    let bare = host.agent(&["enrol"]).env("MIMIR_ENROLLMENT_SECRET", "x");
    bare.run().expect(64).expect_stderr(&["MIMIR_SERVER_URL"]);
    let no_secret = on(&host, &hub, &["enrol"]).run().expect(64);
    no_secret.expect_stderr(&["MIMIR_ENROLLMENT_SECRET", "--token-file"]);
    later(&host, &["status"]).run().expect(78);
    later(&host, &["run"]).run().expect(78);
    enrol(&host, &hub, &secret).run().expect(0);
    let moved = later(&host, &["enrol", "--hub-url", "https://other.example"]);
    moved
        .run()
        .expect(64)
        .expect_stderr(&["is enrolled at another hub", "--force"]);
}

#[test]
fn facts_doctor_and_dry_run_support_mimir() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, Some(1));
    let facts = later(&host, &["facts", "--output", "json"]).run().expect(0);
    assert_eq!(facts.json(), json!({"hostname": "web-3"}));
    let with_secret =
        |arguments: &[&str]| on(&host, &hub, arguments).env("MIMIR_ENROLLMENT_SECRET", &secret);
    let dry = with_secret(&["enrol", "--dry-run", "--output", "json"])
        .run()
        .expect(0);
    assert_eq!(dry.json()["request"]["path"], "/api/v1/enroll");
    assert_eq!(dry.json()["request"]["body"], json!({"hostname": "web-3"}));
    assert!(!host.path("etc/mimir").exists());
    let doctor = with_secret(&["doctor"]).run().expect(0);
    assert!(
        doctor.stdout.contains("MIMIR_ENROLLMENT_SECRET"),
        "{}",
        doctor.stdout
    );
    on(&host, &hub, &["doctor"]).run().expect(64);
    assert_eq!(uses(&hub), "0 / 1");
}
