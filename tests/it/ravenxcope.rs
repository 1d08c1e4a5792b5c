//! `--dialect ravenxcope`: a sensor as documented.

use serde_json::{Value, json};

use crate::common::ravenxcope::{
    CONSUMED, FILE, agent, bare, env_text, file, mint, sensor, sensor_token,
};
use crate::common::{Run, TestHost, TestHub, keys};

/// Makes a backend and a host with the documented env file and an install token.
fn fixture() -> (TestHub, TestHost, String) {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let token = mint(&hub, "sensor-1");
    host.write_file(FILE, &env_text(&hub, "sensor-1", &token));
    (hub, host, token)
}

pub(crate) fn json_of(host: &TestHost, hub: &TestHub, arguments: &[&str], code: i32) -> Value {
    let arguments = [arguments, &["--output", "json"]].concat();
    agent(host, hub, &arguments).run().expect(code).json()
}

/// Checks that no file of the host and no output of a run contains the secret.
#[track_caller]
fn is_gone(secret: &str, host: &TestHost, run: &Run) {
    for (path, bytes) in host.files("") {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(secret), "it is in {}", path.display());
    }
    assert!(!run.stderr.contains(secret) && !run.stdout.contains(secret));
}

#[test]
fn the_env_file_before_and_after_is_the_documented_one() {
    let (hub, host, token) = fixture();
    let run = agent(&host, &hub, &["enrol", "-vv"]).run().expect(0);
    let url = hub.url();
    let sensor_token = sensor_token(&host).unwrap();
    let after =
        format!("SENSOR_ID=sensor-1\n{CONSUMED}\nBACKEND_URL={url}\nSENSOR_TOKEN={sensor_token}\n");
    assert_eq!(file(&host), after);
    assert_eq!(host.mode(FILE), 0o600);
    is_gone(&token, &host, &run);
    assert!(!run.stderr.contains(&sensor_token) && !run.stdout.contains(&sensor_token));
    let names = [
        ".monsys-enrol.json",
        ".monsys-enrol.lock",
        "sensor-agent.env",
    ];
    assert_eq!(host.names("etc/ravenxcope"), names);
}

#[test]
fn the_payload_is_the_documented_one_and_equals_facts() {
    let (hub, host, _) = fixture();
    let facts = json_of(&host, &hub, &["facts"], 0);
    let dry = json_of(&host, &hub, &["enrol", "--dry-run"], 0);
    agent(&host, &hub, &["enrol"])
        .env("SENSOR_PORT", "2222")
        .run()
        .expect(0);
    let sent = sensor(&hub, "sensor-1")["enrolment"].clone();
    assert_eq!(
        keys(&sent),
        [
            "agentVersion",
            "architecture",
            "hostname",
            "interfaces",
            "osInfo",
            "sensorIp",
            "sensorPort",
            "sudoUser"
        ]
    );
    assert_eq!(
        keys(&sent["interfaces"][0]),
        [
            "bytesRecv",
            "bytesSent",
            "isLoopback",
            "isManagement",
            "isUp",
            "isVirtual",
            "isWireless",
            "name"
        ]
    );
    for (field, value) in [
        ("hostname", json!("web-3")),
        ("osInfo", json!("Debian GNU/Linux 12 (bookworm)")),
        ("sudoUser", json!("sensoradmin")),
        ("agentVersion", json!(env!("CARGO_PKG_VERSION"))),
        ("sensorPort", json!(2222)),
    ] {
        assert_eq!(sent[field], value);
    }
    // Byte counters only grow.
    for field in [
        "hostname",
        "osInfo",
        "architecture",
        "agentVersion",
        "sensorIp",
        "sudoUser",
    ] {
        assert_eq!(facts[field], sent[field], "{field}");
        assert_eq!(dry["request"]["body"][field], sent[field], "{field}");
    }
    assert_eq!(
        (&facts["sensorPort"], keys(&facts)),
        (&json!(22), keys(&sent))
    );
    assert!(!dry.to_string().contains("installToken"));
}

#[test]
fn a_container_reads_the_files_of_its_host() {
    let (hub, host, _) = fixture();
    host.write_file("mnt/hostname", "sensor-ubuntu-host\n");
    host.write_file("mnt/os-release", "PRETTY_NAME=\"Ubuntu 24.04 LTS\"\n");
    let text = file(&host) + "HOST_HOSTNAME_FILE=/mnt/hostname\n";
    host.write_file(FILE, &text);
    agent(&host, &hub, &["enrol"])
        .env("HOST_OS_RELEASE_FILE", "/mnt/os-release")
        .run()
        .expect(0);
    let sent = sensor(&hub, "sensor-1")["enrolment"].clone();
    let names = (&sent["hostname"], &sent["osInfo"]);
    assert_eq!(
        names,
        (&json!("sensor-ubuntu-host"), &json!("Ubuntu 24.04 LTS"))
    );
}

#[test]
fn the_documented_variables_are_enough_and_select_the_dialect() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let token = mint(&hub, "sensor-7");
    let run = bare(&host, &hub, &["enrol"])
        .env("SENSOR_ID", "sensor-7")
        .env("BACKEND_URL", &hub.url())
        .env("INSTALL_TOKEN", &token)
        .env("CONFIG_FILE", "/srv/made/for/it.env")
        .run()
        .expect(0);
    is_gone(&token, &host, &run);
    let text = std::fs::read_to_string(host.path("srv/made/for/it.env")).unwrap();
    assert!(
        text.starts_with("SENSOR_TOKEN=") && text.lines().count() == 1,
        "{text}"
    );
    assert_eq!(sensor(&hub, "sensor-7")["status"], "enrolled");
}

#[test]
fn the_environment_overrides_the_file() {
    let (hub, host, _) = fixture();
    let token = mint(&hub, "other");
    agent(&host, &hub, &["enrol"])
        .env("SENSOR_ID", "other")
        .env("INSTALL_TOKEN", &token)
        .run()
        .expect(0);
    assert_eq!(sensor(&hub, "other")["enrolments"], 1);
    assert_eq!(sensor(&hub, "sensor-1")["enrolments"], 0);
    assert!(
        !file(&host).contains("INSTALL_TOKEN="),
        "consumed as documented"
    );
}

#[test]
fn other_lines_comments_and_order_are_preserved() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (token, url) = (mint(&hub, "sensor-1"), hub.url());
    let before = format!(
        "# written by hand, {token}\r\nINSTALL_TOKEN=older\r\n\r\nexport SENSOR_ID='sensor-1'\r\n  export INSTALL_TOKEN = \"{token}\"\r\n\
         SENSOR_TOKEN=\r\nLOG_LEVEL=debug # mine\r\nBACKEND_URL={url}\r\n#SENSOR_PORT=2222"
    );
    host.write_file(FILE, &before);
    let run = agent(&host, &hub, &["enrol"]).run().expect(0);
    let new = sensor_token(&host).unwrap();
    let after = format!(
        "# written by hand, [consumed]\r\n{CONSUMED}\r\n\r\nexport SENSOR_ID='sensor-1'\r\n{CONSUMED}\r\n\
         SENSOR_TOKEN={new}\r\nLOG_LEVEL=debug # mine\r\nBACKEND_URL={url}\r\n#SENSOR_PORT=2222"
    );
    assert_eq!(file(&host), after);
    is_gone(&token, &host, &run);
}

#[test]
fn an_enrolled_sensor_is_confirmed_and_force_enrols_again() {
    let (hub, host, _) = fixture();
    let first = json_of(&host, &hub, &["enrol"], 0);
    assert_eq!(
        (&first["result"], &first["sensor_id"]),
        (&json!("enrolled"), &json!("sensor-1"))
    );
    let (old, before) = (sensor_token(&host).unwrap(), host.files("etc"));
    let again = json_of(&host, &hub, &["enrol"], 0);
    assert_eq!(
        (&again["result"], &again["changed"]),
        (&json!("already_enrolled"), &json!(false))
    );
    assert_eq!(again["confirmed"], true);
    assert_eq!(host.files("etc"), before);
    let dry = json_of(&host, &hub, &["enrol", "--dry-run"], 0);
    assert_eq!(dry["request"], Value::Null);
    agent(&host, &hub, &["enrol", "--force"])
        .run()
        .expect(64)
        .expect_stderr(&["INSTALL_TOKEN"]);
    agent(&host, &hub, &["enrol", "--force"])
        .env("INSTALL_TOKEN", &mint(&hub, "sensor-1"))
        .run()
        .expect(0);
    let text = file(&host);
    assert!(
        !text.contains(&old) && text.matches("SENSOR_TOKEN=").count() == 1,
        "{text}"
    );
    assert_eq!(sensor(&hub, "sensor-1")["enrolments"], 2);
}

/// The backend is asked by a heartbeat with the sensor's own token.
#[test]
fn an_enrolled_sensor_asks_the_backend() {
    let (hub, host, _) = fixture();
    agent(&host, &hub, &["enrol"]).run().expect(0);
    hub.fault(json!({"route": "ravenxcope-heartbeat", "status": 503}));
    agent(&host, &hub, &["enrol"])
        .run()
        .expect(75)
        .expect_stderr(&["did not confirm the enrolment in this run"]);
    let offline = json_of(&host, &hub, &["enrol", "--offline"], 0);
    assert_eq!(offline["confirmed"], false);
    hub.post("/api/sensors/sensor-1/revoke", json!({}));
    let refused = agent(&host, &hub, &["enrol"]).run().expect(77);
    refused.expect_stderr(&["401 to this sensor's own token", "INSTALL_TOKEN"]);
    agent(&host, &hub, &["doctor"]).run().expect(77);
    agent(&host, &hub, &["status", "--check-hub"])
        .run()
        .expect(77);
}

/// The backend of the enrolment was named by the environment, so the env file does not have it.
#[test]
fn another_backend_gets_no_sensor_token() {
    let (hub, host, _) = fixture();
    let other = TestHub::new();
    agent(&host, &hub, &["enrol"]).run().expect(0);
    for command in [
        &["enrol"][..],
        &["run"],
        &["doctor"],
        &["status", "--check-hub"],
    ] {
        let run = agent(&host, &hub, command)
            .env("BACKEND_URL", &other.url())
            .run();
        assert_ne!(run.code, 0, "{command:?} {run:?}");
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(
            said.contains("the sensor token is from"),
            "{command:?} {said}"
        );
    }
    agent(&host, &hub, &["enrol"]).run().expect(0);
    let known = other.get("/api/sensors").to_string();
    assert!(!known.contains("sensor-1"), "{known}");
}

#[test]
fn two_concurrent_runs_enrol_once() {
    let (hub, host, _) = fixture();
    hub.fault(json!({"route": "ravenxcope-enroll", "delay_ms": 300}));
    let runs: Vec<_> = (0..3)
        .map(|_| agent(&host, &hub, &["enrol"]).start())
        .collect();
    for run in runs {
        Run::of(run).expect(0);
    }
    assert_eq!(sensor(&hub, "sensor-1")["enrolments"], 1);
}

#[test]
fn a_lost_response_is_reported_with_its_hint() {
    let (hub, host, token) = fixture();
    hub.fault(json!({"route": "ravenxcope-enroll", "reset": "after"}));
    // A retry of the same run finds the token used up.
    let run = agent(&host, &hub, &["enrol"])
        .run()
        .expect(77)
        .expect_stderr(&[
            "an earlier try of this run got no response",
            "make a new install token for sensor sensor-1",
        ]);
    assert!(!run.stderr.contains(&token), "{}", run.stderr);
    let status = json_of(&host, &hub, &["status"], 78);
    assert_eq!(status["state"], "unanswered");
    agent(&host, &hub, &["doctor"]).run();
    agent(&host, &hub, &["enrol"])
        .run()
        .expect(77)
        .expect_stderr(&[
            "an earlier run's request, of 20",
            "make a new install token for sensor sensor-1",
        ]);
    assert_eq!(sensor_token(&host), None);

    // The fix that the message names.
    let text = file(&host).replace(&token, &mint(&hub, "sensor-1"));
    host.write_file(FILE, &text);
    agent(&host, &hub, &["enrol"]).run().expect(0);
    assert_eq!(json_of(&host, &hub, &["status"], 0)["renewing"], false);
}

#[test]
fn a_request_that_was_not_sent_is_not_pending() {
    let (hub, host, token) = fixture();
    let text = file(&host).replace(&token, "never-minted-at-all");
    host.write_file(FILE, &text);
    let run = agent(&host, &hub, &["enrol"]).run().expect(77);
    assert!(
        !run.stderr.contains("no answer") && !run.stderr.contains("CIDR"),
        "{}",
        run.stderr
    );
    assert_eq!(
        host.names("etc/ravenxcope"),
        [".monsys-enrol.lock", "sensor-agent.env"]
    );
    assert_eq!(json_of(&host, &hub, &["status"], 78)["state"], "new");

    // A rejected forced enrolment leaves the old state.
    host.write_file(FILE, &text.replace("never-minted-at-all", &token));
    agent(&host, &hub, &["enrol"]).run().expect(0);
    let before = json_of(&host, &hub, &["status"], 0);
    agent(&host, &hub, &["enrol", "--force"])
        .env("INSTALL_TOKEN", "never-minted-at-all")
        .run()
        .expect(77);
    assert_eq!(json_of(&host, &hub, &["status"], 0), before);
}

#[test]
fn a_secret_in_a_response_is_redacted() {
    let (hub, host, token) = fixture();
    let body = json!({"success": false, "message": format!("no such token: {token}")});
    hub.fault(json!({"route": "ravenxcope-enroll", "status": 400, "body": body.to_string()}));
    let run = agent(&host, &hub, &["enrol", "-vv"]).run().expect(65);
    assert!(!run.stderr.contains(&token), "{}", run.stderr);
    run.expect_stderr(&["no such token", "[redacted]"]);
}

#[test]
fn a_wrong_setting_is_reported_before_any_request() {
    let (hub, host, _) = fixture();
    let text = file(&host);
    for (from, to, code, message) in [
        ("SENSOR_ID=sensor-1", "SENSOR_ID=", 64, "SENSOR_ID"),
        ("SENSOR_ID=sensor-1", "SENSOR_ID=../x", 64, "SENSOR_ID"),
        ("SENSOR_ID=", "SENSOR_PORT=0\nSENSOR_ID=", 64, "SENSOR_PORT"),
        ("BACKEND_URL=", "#BACKEND_URL=", 64, "BACKEND_URL"),
        ("BACKEND_URL=https", "BACKEND_URL=ftp", 64, "BACKEND_URL"),
        (
            "SENSOR_ID=sensor-1",
            "SENSOR_ID=\"sensor-1",
            78,
            "SENSOR_ID",
        ),
    ] {
        host.write_file(FILE, &text.replace(from, to));
        agent(&host, &hub, &["enrol"])
            .run()
            .expect(code)
            .expect_stderr(&[message]);
    }
    assert_eq!(sensor(&hub, "sensor-1")["enrolments"], 0);
    // The facts need no backend.
    host.write_file(FILE, "");
    agent(&host, &hub, &["facts"]).run().expect(0);
}
