//! RavenXcope: sensors that enrol with a one-time token, and its operator.

use crate::clients::{Caller, hub, hub_with, text};
use mock_hub::{Hub, Options};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;
use tokio::task::JoinSet;

const SENSOR: &str = "/api/sensors/sensor-1";

/// The payload of the system's own documentation.
fn payload(install_token: &str) -> Value {
    json!({
        "installToken": install_token,
        "hostname": "sensor-ubuntu-host",
        "osInfo": "Ubuntu 24.04 LTS",
        "architecture": "x86_64",
        "agentVersion": "2.0.0",
        "sensorIp": "192.168.1.100",
        "sensorPort": 22,
        "sudoUser": "sensoradmin",
        "interfaces": [interface("enp130s0f0"), interface("enp130s0f1")],
    })
}

fn interface(name: &str) -> Value {
    json!({"name": name, "isManagement": true, "isLoopback": false, "isVirtual": false,
        "isWireless": false, "isUp": true, "bytesSent": 1_073_741_824_u64, "bytesRecv": 2_147_483_648_u64})
}

fn heartbeat() -> Value {
    json!({"cpuUsage": 12.5, "memoryUsed": 1_000, "memoryTotal": 4_000, "memoryPercent": 25.0,
        "interfaces": [interface("enp130s0f0")]})
}

async fn create_token(operator: &Caller, sensor: &str) -> String {
    let (status, created) = operator
        .post(&format!("{sensor}/install-token"), &json!({}))
        .await;
    assert_eq!(status, 201, "{created}");
    text(&created, "installToken")
}

/// Returns status and body of a sensor's call. A refusal has the form of the dialect.
async fn call(caller: &Caller, path: &str, bearer: &str, body: &Value) -> (u16, Value) {
    let request = caller
        .request(Method::POST, path)
        .bearer_auth(bearer)
        .json(body);
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let answer: Value = response.json().await.expect("JSON");
    if status != 200 {
        assert_eq!(answer["success"], false, "{answer}");
        assert!(!text(&answer, "message").is_empty());
        assert_eq!(answer.as_object().expect("an object").len(), 2, "{answer}");
    }
    (status, answer)
}

async fn enroll(caller: &Caller, sensor: &str, body: &Value) -> (u16, Value) {
    call(caller, &format!("{sensor}/agent/enroll"), "", body).await
}

async fn send_heartbeat(caller: &Caller, sensor: &str, token: &str) -> u16 {
    let path = format!("{sensor}/agent/heartbeat");
    call(caller, &path, token, &heartbeat()).await.0
}

/// Enrols, and returns the sensor token; fails the test if the hub refuses.
async fn enrolled(operator: &Caller, sensor: &str) -> String {
    let install_token = create_token(operator, sensor).await;
    let (status, answer) = enroll(operator, sensor, &payload(&install_token)).await;
    assert_eq!(status, 200, "{answer}");
    text(&answer["data"], "sensorToken")
}

async fn fixture() -> (Hub, Caller) {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    (hub, operator)
}

#[tokio::test]
async fn a_sensor_enrols_and_sends_heartbeats_as_documented() {
    let hub = hub_with(Options {
        heartbeat_interval_secs: 7,
        ..Options::default()
    })
    .await;
    let operator = Caller::of(&hub);
    let install_token = create_token(&operator, SENSOR).await;
    let (status, answer) = enroll(&operator, SENSOR, &payload(&install_token)).await;
    let token = text(&answer["data"], "sensorToken");
    let expected = json!({"success": true, "data": {"sensorId": "sensor-1", "sensorToken": token,
        "backendUrl": hub.url(), "heartbeatIntervalSeconds": 7}});
    assert_eq!((status, answer), (200, expected));

    let path = format!("{SENSOR}/agent/heartbeat");
    let answer = call(&operator, &path, &token, &heartbeat()).await;
    assert_eq!(answer, (200, json!({"success": true})));

    let (_, sensor) = operator.get(SENSOR).await;
    let mut sent = payload(&install_token);
    sent.as_object_mut()
        .expect("an object")
        .remove("installToken");
    assert_eq!(sensor["enrolment"], sent);
    assert_eq!(sensor["heartbeat"], heartbeat());
    let counts = (
        &sensor["status"],
        &sensor["enrolments"],
        &sensor["heartbeats"],
    );
    assert_eq!(counts, (&json!("enrolled"), &json!(1), &json!(1)));
    let (_, list) = operator.get("/api/sensors").await;
    assert_eq!(list, json!({"sensors": [sensor]}));
    assert!(!list.to_string().contains(&install_token) && !list.to_string().contains(&token));
    hub.stop().await;
}

#[tokio::test]
async fn one_token_admits_one_of_many_callers() {
    let (hub, operator) = fixture().await;
    let body = payload(&create_token(&operator, SENSOR).await);
    let mut racers = JoinSet::new();
    for _ in 0..20 {
        let caller = Caller::of(&hub);
        let body = body.clone();
        racers.spawn(async move { enroll(&caller, SENSOR, &body).await });
    }
    let answers = racers.join_all().await;
    let of = |status| answers.iter().filter(move |answer| answer.0 == status);
    assert_eq!((of(200).count(), of(401).count()), (1, 19));
    let refusals: HashSet<String> = of(401).map(|(_, body)| body.to_string()).collect();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert_eq!(operator.get(SENSOR).await.1["enrolments"], 1);
    hub.stop().await;
}

#[tokio::test]
async fn a_token_that_does_not_admit_is_refused_alike() {
    let (hub, operator) = fixture().await;
    let used = create_token(&operator, SENSOR).await;
    assert_eq!(enroll(&operator, SENSOR, &payload(&used)).await.0, 200);
    let replaced = create_token(&operator, "/api/sensors/b").await;
    let of_b = create_token(&operator, "/api/sensors/b").await;
    let revoked = create_token(&operator, "/api/sensors/c").await;
    let (status, sensor) = operator.post("/api/sensors/c/revoke", &json!({})).await;
    assert_eq!((status, text(&sensor, "status").as_str()), (200, "revoked"));

    let mut answers = HashSet::new();
    for (sensor, token) in [
        (SENSOR, used.as_str()),
        (SENSOR, "unknown"),
        (SENSOR, &of_b),
        ("/api/sensors/b", &replaced),
        ("/api/sensors/c", &revoked),
        ("/api/sensors/unknown", "unknown"),
    ] {
        let (status, answer) = enroll(&operator, sensor, &payload(token)).await;
        assert_eq!(status, 401, "{sensor} {token}");
        answers.insert(answer.to_string());
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    hub.advance_clock(Duration::from_secs(24 * 60 * 60 + 1));
    let late = enroll(&operator, "/api/sensors/b", &payload(&of_b)).await;
    assert_eq!(late.0, 401);
    hub.stop().await;
}

#[tokio::test]
async fn a_new_install_token_recovers_from_a_lost_response() {
    let (hub, operator) = fixture().await;
    operator
        .fault(json!({"route": "ravenxcope-enroll", "reset": "after"}))
        .await;
    let body = payload(&create_token(&operator, SENSOR).await);
    let lost = operator
        .request(Method::POST, &format!("{SENSOR}/agent/enroll"))
        .json(&body)
        .send()
        .await;
    assert!(lost.is_err());
    assert_eq!(operator.get(SENSOR).await.1["enrolments"], 1, "committed");
    assert_eq!(enroll(&operator, SENSOR, &body).await.0, 401);

    let first = enrolled(&operator, SENSOR).await;
    let again = create_token(&operator, SENSOR).await;
    assert_eq!(
        send_heartbeat(&operator, SENSOR, &first).await,
        200,
        "until it is used"
    );
    let (_, answer) = enroll(&operator, SENSOR, &payload(&again)).await;
    let second = text(&answer["data"], "sensorToken");
    assert_eq!(send_heartbeat(&operator, SENSOR, &first).await, 401);
    assert_eq!(send_heartbeat(&operator, SENSOR, &second).await, 200);
    hub.stop().await;
}

#[tokio::test]
async fn every_field_is_checked_and_spends_nothing() {
    let (hub, operator) = fixture().await;
    let full = payload(&create_token(&operator, SENSOR).await);
    let wrong = [
        ("installToken", json!("")),
        ("hostname", json!("a\nb")),
        ("osInfo", json!(7)),
        ("architecture", json!("x".repeat(1025))),
        ("agentVersion", json!(null)),
        ("sensorIp", json!("localhost")),
        ("sensorPort", json!(0)),
        ("sensorPort", json!(65_536)),
        ("sudoUser", json!("")),
        ("interfaces", json!({})),
        ("interfaces", json!([{"name": "eth0"}])),
    ];
    for (field, value) in wrong {
        let mut body = full.clone();
        body[field] = value.clone();
        let (status, answer) = enroll(&operator, SENSOR, &body).await;
        assert_eq!(status, 422, "{field} {value}");
        assert!(text(&answer, "message").contains(field), "{answer}");
    }
    for field in full.as_object().expect("an object").keys() {
        let mut body = full.clone();
        body.as_object_mut().expect("an object").remove(field);
        let (status, answer) = enroll(&operator, SENSOR, &body).await;
        assert_eq!(status, 422, "without {field}");
        assert!(text(&answer, "message").contains(field), "{answer}");
    }
    let mut more = full.clone();
    more["tomorrow"] = json!({"is": "ignored"});
    assert_eq!(enroll(&operator, SENSOR, &more).await.0, 200);

    let (_, sensor) = operator.get(SENSOR).await;
    assert_eq!(sensor["enrolments"], 1);
    hub.stop().await;
}

#[tokio::test]
async fn a_heartbeat_is_checked_and_needs_the_sensors_own_token() {
    let (hub, operator) = fixture().await;
    let token = enrolled(&operator, SENSOR).await;
    let other = enrolled(&operator, "/api/sensors/other").await;
    let path = format!("{SENSOR}/agent/heartbeat");
    for (field, value) in [
        ("cpuUsage", json!(-1)),
        ("cpuUsage", json!(null)),
        ("memoryUsed", json!(4_001)),
        ("memoryTotal", json!("4000")),
        ("memoryPercent", json!(100.1)),
        ("interfaces", json!(null)),
    ] {
        let mut body = heartbeat();
        body[field] = value.clone();
        let (status, answer) = call(&operator, &path, &token, &body).await;
        assert_eq!(status, 422, "{field} {value}");
        assert!(text(&answer, "message").contains(field), "{answer}");
    }
    for wrong in ["", "unknown", &other] {
        assert_eq!(send_heartbeat(&operator, SENSOR, wrong).await, 401);
    }
    assert_eq!(operator.get(SENSOR).await.1["heartbeats"], 0);
    assert_eq!(send_heartbeat(&operator, SENSOR, &token).await, 200);
    let revoke = format!("{SENSOR}/revoke");
    assert_eq!(operator.post(&revoke, &json!({})).await.0, 200);
    assert_eq!(send_heartbeat(&operator, SENSOR, &token).await, 401);
    hub.stop().await;
}

#[tokio::test]
async fn its_operator_calls_are_the_admins_and_name_a_sensor() {
    let (hub, operator) = fixture().await;
    let token = enrolled(&operator, SENSOR).await;
    for (method, path) in [
        (Method::GET, "/api/sensors".to_owned()),
        (Method::GET, SENSOR.to_owned()),
        (Method::POST, format!("{SENSOR}/install-token")),
        (Method::POST, format!("{SENSOR}/revoke")),
    ] {
        let request = operator
            .request(method.clone(), &path)
            .bearer_auth(&token)
            .json(&json!({}));
        let status = request.send().await.expect("an answer").status();
        assert_eq!(status, 401, "{method} {path}");
    }
    for name in ["%20", "a%2Fb", "%ff", &"x".repeat(129)] {
        let path = format!("/api/sensors/{name}");
        let create_token = format!("{path}/install-token");
        assert_eq!(
            operator.post(&create_token, &json!({})).await.0,
            404,
            "{name}"
        );
        let no = enroll(&operator, &path, &payload("t")).await;
        assert_eq!(no.0, 404, "{name}");
    }
    assert_eq!(operator.get("/api/sensors/unknown").await.0, 404);
    let revoke = operator
        .post("/api/sensors/unknown/revoke", &json!({}))
        .await;
    assert_eq!(revoke.0, 404);
    hub.stop().await;
}

#[tokio::test]
async fn the_other_failures_are_faults() {
    let (hub, operator) = fixture().await;
    let body = payload(&create_token(&operator, SENSOR).await);
    let no = r#"{"success":false,"message":"no"}"#;
    let empty = r#"{"success":true,"data":{"sensorToken":""}}"#;
    for answer in [no, empty] {
        let fault = json!({"route": "ravenxcope-enroll", "status": 200, "body": answer});
        operator.fault(fault).await;
        let expected = serde_json::from_str(answer).expect("JSON");
        assert_eq!(enroll(&operator, SENSOR, &body).await, (200, expected));
    }
    let fault = json!({"route": "ravenxcope-heartbeat", "status": 503});
    operator.fault(fault).await;
    let token = enrolled(&operator, SENSOR).await;
    let path = format!("{SENSOR}/agent/heartbeat");
    let struck = operator
        .request(Method::POST, &path)
        .bearer_auth(&token)
        .json(&heartbeat());
    assert_eq!(struck.send().await.expect("an answer").status(), 503);
    hub.stop().await;
}

#[tokio::test]
async fn sensors_survive_a_restart_on_an_older_database() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = || Options {
        database: Some(dir.path().join("hub.db")),
        ..Options::default()
    };
    let hub = hub_with(options()).await;
    hub.stop().await;
    // As a hub without dialects has written it.
    let file = rusqlite::Connection::open(dir.path().join("hub.db")).expect("the database");
    file.execute_batch("DROP TABLE ravenxcope_sensors")
        .expect("the table");
    drop(file);

    let hub = hub_with(options()).await;
    let token = enrolled(&Caller::of(&hub), SENSOR).await;
    hub.stop().await;
    let hub = hub_with(options()).await;
    assert_eq!(send_heartbeat(&Caller::of(&hub), SENSOR, &token).await, 200);
    hub.stop().await;
}
