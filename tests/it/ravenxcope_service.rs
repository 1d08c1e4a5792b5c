//! A sensor after its enrolment: heartbeats, and a token that replaces a rejected one.

use serde_json::{Value, json};

use crate::common::ravenxcope::{FILE, agent, env_text, mint, sensor};
use crate::common::{Service, TestHost, TestHub, keys, until};
use crate::ravenxcope::json_of;

#[test]
fn heartbeats_follow_the_interval_of_the_response_and_carry_all_measurements() {
    let hub = TestHub::with(mock_hub::Options {
        heartbeat_interval_secs: 1,
        ..mock_hub::Options::default()
    });
    let host = TestHost::new();
    host.write_file(FILE, &env_text(&hub, "sensor-1", &mint(&hub, "sensor-1")));
    agent(&host, &hub, &["enrol"]).run().expect(0);
    let service = Service::of(agent(&host, &hub, &["run"]));
    until("three heartbeats", || {
        sensor(&hub, "sensor-1")["heartbeats"].as_u64() >= Some(3)
    });
    let status = json_of(&host, &hub, &["status"], 0);
    assert_eq!(
        (&status["heartbeats"], &status["heartbeat_interval_secs"]),
        (&json!("ok"), &json!(1))
    );
    service.stop().expect(0);
    let heartbeat = sensor(&hub, "sensor-1")["heartbeat"].clone();
    assert_eq!(
        keys(&heartbeat),
        [
            "cpuUsage",
            "interfaces",
            "memoryPercent",
            "memoryTotal",
            "memoryUsed"
        ]
    );
    assert!(
        heartbeat["memoryTotal"].as_u64() > Some(0) && heartbeat["memoryUsed"].as_u64() > Some(0)
    );
    assert!(!heartbeat["interfaces"].as_array().unwrap().is_empty());
    assert_eq!(
        json_of(&host, &hub, &["status"], 75)["heartbeats"],
        "stopped"
    );
}

#[test]
fn the_service_loads_a_token_that_replaces_a_rejected_one() {
    let hub = TestHub::with(mock_hub::Options {
        heartbeat_interval_secs: 1,
        ..mock_hub::Options::default()
    });
    let host = TestHost::new();
    host.write_file(FILE, &env_text(&hub, "sensor-1", &mint(&hub, "sensor-1")));
    let service = Service::of(agent(&host, &hub, &["run"]));
    let heartbeats = || sensor(&hub, "sensor-1")["heartbeats"].as_u64().unwrap();
    until("the enrolment and a heartbeat", || heartbeats() > 0);
    hub.post("/api/sensors/sensor-1/revoke", json!({}));
    until("the refusal", || {
        json_of_any(&host, &hub)["last_failure"]["id"] == "rejected"
    });
    let refused = heartbeats();
    agent(&host, &hub, &["enrol", "--force"])
        .env("INSTALL_TOKEN", &mint(&hub, "sensor-1"))
        .run()
        .expect(0);
    until("a heartbeat with the new token", || heartbeats() > refused);
    let run = service.stop().expect(0);
    run.expect_stderr(&[
        "401 to this sensor's own token",
        "read the configuration again",
    ]);
}

/// Runs `status` with any exit code.
fn json_of_any(host: &TestHost, hub: &TestHub) -> Value {
    agent(host, hub, &["status", "--output", "json"])
        .run()
        .json()
}
