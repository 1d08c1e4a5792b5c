//! A copied disk of a Mimir host, and a machine whose ids change.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::common::{Service, TestHost, TestHub, until};
use crate::mimir::{FILES, agents, enrol, file, later, mint, text, uses};

const INSTANCE_ID: &str = "run/cloud-init/.instance-id";

/// Returns the fingerprint in the record of the host.
fn fingerprint(host: &TestHost) -> Value {
    let record: Value = serde_json::from_str(&file(host, "agent.json")).unwrap();
    record["machine"].clone()
}

#[test]
fn a_copied_disk_enrols_separately_and_the_first_host_keeps_its_certificate() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, Some(2));
    enrol(&host, &hub, &secret).run().expect(0);
    let copy = host.copy();
    copy.write_file("etc/machine-id", "fedcba9876543210fedcba9876543210\n");
    let status = later(&copy, &["status", "--output", "json"])
        .run()
        .expect(78);
    assert_eq!(status.json()["state"], "clone");
    // A rejected host has its old files.
    enrol(&copy, &hub, "wrong").run().expect(77);
    assert_eq!(file(&copy, "client.key"), file(&host, "client.key"));
    assert_eq!(copy.names("etc/mimir"), FILES);
    enrol(&copy, &hub, &secret).run().expect(0);
    assert_ne!(file(&copy, "client.key"), file(&host, "client.key"));
    assert_eq!(copy.names("etc/mimir"), FILES);
    assert_eq!((agents(&hub).len(), uses(&hub).as_str()), (2, "2 / 2"));
    let ids = [&host, &copy].map(|host| {
        let status = later(host, &["status", "--output", "json"]).run().expect(0);
        text(&status.json()["agent_id"])
    });
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn ids_that_appear_later_are_added_and_ids_that_are_not_shown_stay() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, Some(1));
    std::fs::remove_file(host.path("etc/machine-id")).unwrap();
    enrol(&host, &hub, &secret).run().expect(0);
    let first = fingerprint(&host);
    assert!(first["instance_id"].is_null() && first["machine_id"].is_null());
    host.write_file(INSTANCE_ID, "i-0123456789abcdef0\n");
    let again = later(&host, &["enrol", "--output", "json"]).run().expect(0);
    assert_eq!(
        (&again.json()["changed"], &again.json()["confirmed"]),
        (&json!(false), &json!(true))
    );
    let added = fingerprint(&host);
    assert!(added["instance_id"].is_string(), "{added}");

    // The privileged step does it too, and a record that is written again loses no id.
    host.write_file("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    later(&host, &["prepare"]).run().expect(0);
    let complete = fingerprint(&host);
    assert_eq!(complete["instance_id"], added["instance_id"]);
    assert!(complete["machine_id"].is_string(), "{complete}");
    std::fs::remove_file(host.path(INSTANCE_ID)).unwrap();
    let force = crate::mimir::on(&host, &hub, &["enrol", "--force"]);
    force
        .env("MIMIR_ENROLLMENT_SECRET", &secret)
        .run()
        .expect(0);
    assert_eq!(fingerprint(&host), complete);
    assert_eq!((agents(&hub).len(), uses(&hub).as_str()), (1, "1 / 1"));
}

#[test]
fn a_running_service_adds_an_id_that_appears() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, Some(1));
    enrol(&host, &hub, &secret).run().expect(0);
    let service = Service::of(later(&host, &["run"]));
    let status = || later(&host, &["status", "--output", "json"]).run().json();
    until("a heartbeat", || status()["heartbeats"] == "ok");
    host.write_file(INSTANCE_ID, "i-0123456789abcdef0\n");
    service.signal(Signal::SIGHUP);
    until("the id", || fingerprint(&host)["instance_id"].is_string());
    service.stop().expect(0);
}

#[test]
fn a_service_whose_machine_changes_makes_no_further_call() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, Some(1));
    enrol(&host, &hub, &secret).run().expect(0);
    hub.fault(json!({"route": "mimir-self", "status": 503, "times": 999}));
    let service = Service::of(later(&host, &["run"]));
    let status = || later(&host, &["status", "--output", "json"]).run().json();
    until("a miss", || !status()["last_failure"].is_null());
    // No file of the agent changes.
    host.write_file("etc/machine-id", "fedcba9876543210fedcba9876543210\n");
    service.end().expect(78).expect_stderr(&["cloned from"]);
}
