//! `run`: heartbeats of the real service to the real hub.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::common::{SERVICE_USER, Service, TestHost, TestHub, needs_root, until};

const JOURNAL: &str = "var/lib/monsys/heartbeat.json";

fn enrolled(hub: &TestHub) -> TestHost {
    let host = TestHost::new();
    host.enrol(hub, &hub.token()).run().expect(0);
    host
}

/// Returns the time of the last heartbeat of the hub's only agent.
fn heartbeat(hub: &TestHub) -> Option<String> {
    let last = hub.agents()[0]["last_heartbeat"].clone();
    last["captured_at"].as_str().map(str::to_owned)
}

fn until_heartbeat(hub: &TestHub, before: Option<&str>) -> String {
    let mut last = None;
    until("a heartbeat", || {
        last = heartbeat(hub);
        last.is_some() && last.as_deref() != before
    });
    last.unwrap()
}

fn health_file(host: &TestHost) -> Value {
    let text = fs::read_to_string(host.path(JOURNAL)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Waits until the health file has a failure with this id.
fn until_failure(host: &TestHost, id: &str) {
    until(id, || health_file(host)["failure"]["id"] == *id);
}

#[test]
fn the_first_heartbeat_is_sent_at_once_signed_and_complete() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let service = host.service();
    until_heartbeat(&hub, None);
    let agent = hub.agents()[0].clone();
    let sent = &agent["last_heartbeat"];
    for key in ["cpu_usage", "memory_percent"] {
        let value = sent[key].as_f64().unwrap();
        assert!((0.0..=100.0).contains(&value), "{key}: {value}");
    }
    assert!(sent["memory_used"].as_u64() < sent["memory_total"].as_u64());
    assert_eq!(sent["agent_version"], env!("CARGO_PKG_VERSION"));
    let interfaces = sent["interfaces"].as_array().unwrap();
    assert!(interfaces.iter().any(|it| it["is_loopback"] == true));
    assert_eq!(hub.get("integrity")["anomalies"], json!([]));
    until("its note", || {
        health_file(&host)["last_heartbeat"].is_string()
    });
    let run = service
        .stop()
        .expect(0)
        .expect_stderr(&["accepts this host's heartbeats"]);
    assert!(run.stdout.is_empty(), "{}", run.stdout);
    assert!(health_file(&host)["stopped_at"].is_string());
}

#[test]
fn the_service_stops_at_once_while_the_hub_is_silent() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        hub.fault(json!({"route": "heartbeat", "delay_ms": 600_000, "times": 1}));
        let service = host.service();
        until("the request", || fault_is_spent(&hub));
        service.signal(signal);
        service.end().expect(0);
    }
}

/// Returns whether the hub has received the request that it delays.
fn fault_is_spent(hub: &TestHub) -> bool {
    hub.get("faults")["faults"] == json!([])
}

#[test]
fn an_unenrolled_host_without_a_token_prints_a_hint() {
    let host = TestHost::new();
    let run = host.agent(&["run"]).run().expect(78);
    run.expect_stderr(&["not enrolled", "MONSYS_TOKEN=enrl_… monsys-agent enrol"]);
    assert!(!host.path("var/lib/monsys").exists(), "it writes nothing");
}

/// As the unit runs it: the step as root, then `run --if-enrolled` as the service's user.
#[test]
#[ignore = "needs root: changes owners"]
fn an_untouched_host_ends_with_86_and_any_other_without_a_token_with_78() {
    let host = TestHost::with_service_user();
    let state_dir = host.path("var/lib/monsys");
    fs::create_dir_all(&state_dir).unwrap();
    let socket = UnixDatagram::bind(host.path("run/notify")).unwrap();
    socket.set_nonblocking(true).unwrap();
    std::os::unix::fs::chown(host.path("run/notify"), Some(SERVICE_USER), None).unwrap();
    let service = |arguments: &[&str]| {
        host.agent(&["prepare"]).run().expect(0);
        host.agent(arguments)
            .env("NOTIFY_SOCKET", host.path("run/notify").to_str().unwrap())
            .by_user(SERVICE_USER)
            .run()
    };
    let idle = |arguments: &[&str]| {
        let run = service(arguments).expect(86);
        run.expect_stderr(&["is not enrolled, and the service has nothing to do"]);
        let mut bytes = [0; 512];
        let length = socket.recv(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        assert!(
            text.starts_with("READY=1\nSTATUS=this host is not enrolled"),
            "{text}"
        );
    };
    idle(&["run", "--if-enrolled"]);
    // An image may have settings without a credential.
    host.write_file(
        "etc/monsys/agent.toml",
        "hub_url = \"https://hub.example\"\ntags = [\"a\"]\n",
    );
    idle(&["run", "--if-enrolled"]);
    service(&["run"])
        .expect(78)
        .expect_stderr(&["not enrolled"]);
    host.agent(&["status"]).run().expect(78);

    // A key is what a killed or rejected enrolment leaves.
    let (hub, token) = (TestHub::new(), "enrl_0123456789abcdefghij");
    host.enrol(&hub, token).run().expect(77);
    service(&["run", "--if-enrolled"]).expect(78);
    // An enrolled host whose credential is gone.
    host.enrol(&hub, &hub.token()).run().expect(0);
    host.write_file("etc/monsys/agent.toml", "");
    service(&["run", "--if-enrolled"]).expect(78);
    assert!(
        socket.recv(&mut [0; 8]).is_err(),
        "a failure is not reported as a start"
    );

    // An unenrolled host is untouched again.
    let host = TestHost::with_service_user();
    host.enrol(&hub, &hub.token()).run().expect(0);
    host.agent(&["unenrol"]).run().expect(0);
    host.agent(&["prepare"]).run().expect(0);
    let run = host.agent(&["run", "--if-enrolled"]).by_user(SERVICE_USER);
    run.run().expect(86);
}

/// Other dialects, whose folders hold their settings.
#[test]
#[ignore = "needs root: changes owners"]
fn an_untouched_host_of_each_dialect_with_a_service_ends_with_86() {
    for (dialect, file, text) in [
        (
            "ravenxcope",
            "etc/ravenxcope/sensor-agent.env",
            "SENSOR_ID=s1\nBACKEND_URL=http://127.0.0.1:9\n",
        ),
        ("mimir", "", ""),
    ] {
        let host = TestHost::with_service_user();
        if !file.is_empty() {
            host.write_file(file, text);
        }
        host.agent(&["prepare", "--dialect", dialect])
            .run()
            .expect(0);
        let run = host.agent(&["run", "--if-enrolled", "--dialect", dialect]);
        run.by_user(SERVICE_USER).run().expect(86);
    }
}

#[test]
fn a_prepared_host_enrols_and_sends_heartbeats() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.write_file("run/token", &hub.token());
    let token_file = host.path("run/token");
    host.enrol_with(
        &hub,
        "",
        &["--defer", "--token-file", token_file.to_str().unwrap()],
    )
    .run()
    .expect(0);
    let service = host.service();
    until("an agent", || !hub.agents().is_empty());
    until_heartbeat(&hub, None);
    service.stop().expect(0);
    hub.expect_one_slot();
}

#[test]
fn a_systemd_credential_enrols_the_host() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let ca_file = host.install_ca(&hub).unwrap();
    host.write_file("credentials/monsys-token", &hub.token());
    let service = Service::of(
        host.agent(&["run"])
            .env("MONSYS_HUB_URL", &hub.url())
            .env("MONSYS_CA_FILE", ca_file.to_str().unwrap())
            .env(
                "CREDENTIALS_DIRECTORY",
                host.path("credentials").to_str().unwrap(),
            ),
    );
    until("an agent", || !hub.agents().is_empty());
    until_heartbeat(&hub, None);
    service.stop().expect(0);
    hub.expect_one_slot();
}

#[test]
fn a_rejected_token_stops_the_service_with_the_exit_code_of_enrol() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let ca_file = host.install_ca(&hub).unwrap();
    host.agent(&["run"])
        .env("MONSYS_HUB_URL", &hub.url())
        .env("MONSYS_CA_FILE", ca_file.to_str().unwrap())
        .env("MONSYS_TOKEN", "enrl_wrong")
        .run()
        .expect(77)
        .expect_stderr(&["rejected"]);
}

#[test]
fn a_clone_sends_no_heartbeat_as_its_original() {
    let hub = TestHub::new();
    let original = enrolled(&hub);
    let clone = original.copy();
    clone.write_file("etc/machine-id", "fedcba9876543210fedcba9876543210\n");
    clone
        .agent(&["run"])
        .run()
        .expect(78)
        .expect_stderr(&["cloned from"]);
    assert_eq!(heartbeat(&hub), None);

    let token = hub.token();
    let service = Service::of(clone.agent(&["run"]).env("MONSYS_TOKEN", &token));
    until("a second agent", || hub.agents().len() == 2);
    until("its heartbeat", || {
        let mut agents = hub.agents().into_iter();
        agents.any(|agent| agent["last_heartbeat"]["captured_at"].is_string())
    });
    assert_eq!(heartbeat(&hub), None, "the original is the first one");
    service.stop().expect(0);
}

#[test]
fn an_outage_is_logged_once_and_the_service_continues() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    hub.fault(json!({"route": "heartbeat", "status": 503, "times": 4}));
    let service = host.service();
    until_heartbeat(&hub, None);
    until("the end of the failure", || {
        health_file(&host)["failure"]["ended_at"].is_string()
    });
    let failure = health_file(&host)["failure"].clone();
    assert_eq!(
        (&failure["id"], &failure["tries"]),
        (&json!("unreachable"), &json!(4))
    );
    let run = service
        .stop()
        .expect(0)
        .expect_stderr(&["accepts heartbeats again"]);
    assert_eq!(
        run.stderr.matches("a heartbeat failed").count(),
        1,
        "{}",
        run.stderr
    );
}

#[test]
fn a_rotated_token_is_explained_and_a_new_one_is_loaded_without_a_restart() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let service = host.service();
    let first = until_heartbeat(&hub, None);
    let old = host.key("agent_token").unwrap();
    let id = host.key("agent_id").unwrap();
    let new = hub.post(&format!("agents/{id}/rotate-token"), json!({}))["token"].clone();
    service.signal(Signal::SIGHUP);
    until_failure(&host, "forgotten");
    assert!(
        health_file(&host)["failure"]["hint"]
            .as_str()
            .unwrap()
            .contains("rotate-token")
    );

    let text = host.agent_toml().replace(&old, new.as_str().unwrap());
    host.write_file("etc/monsys/agent.toml", &text);
    service.signal(Signal::SIGHUP);
    until_heartbeat(&hub, Some(&first));
    service.stop().expect(0);
}

#[test]
fn a_broken_agent_toml_is_logged_and_heartbeats_continue() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let service = host.service();
    let first = until_heartbeat(&hub, None);
    host.write_file("etc/monsys/agent.toml", "broken = \n");
    service.signal(Signal::SIGHUP);
    until_heartbeat(&hub, Some(&first));
    service.stop().expect(0).expect_stderr(&[
        "agent.toml is broken",
        "continuing with the configuration that was read before",
    ]);
}

#[test]
fn a_removed_credential_stops_the_service() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let service = host.service();
    until_heartbeat(&hub, None);
    host.write_file("etc/monsys/agent.toml", "# nothing\n");
    service.signal(Signal::SIGHUP);
    service.end().expect(78).expect_stderr(&["holds none now"]);
}

#[test]
fn the_service_notifies_the_service_manager() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let path = host.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_mins(1)))
        .unwrap();
    let notification = || {
        let mut buffer = [0; 2048];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let service = Service::of(
        host.agent(&["run"])
            .env("NOTIFY_SOCKET", path.to_str().unwrap())
            .env("WATCHDOG_USEC", "200000"),
    );
    let id = host.key("agent_id").unwrap();
    assert!(notification().contains("READY=1\nSTATUS=agent "), "{id}");
    let status = notification();
    assert!(
        status.contains("heartbeats are accepted (the last accepted at 2"),
        "{status}"
    );
    assert!(notification().starts_with("WATCHDOG=1"));
    service.signal(Signal::SIGHUP);
    let next = |wanted: &str| while !notification().contains(wanted) {};
    next("RELOADING=1\nMONOTONIC_USEC=");
    next("READY=1");
    service.signal(Signal::SIGTERM);
    next("STOPPING=1");
    service.end().expect(0);
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn a_single_user_installation_runs_and_its_key_is_private() {
    needs_root();
    let hub = TestHub::new();
    let host = TestHost::new();
    let user = 54_321;
    for folder in ["etc/monsys", "var/lib/monsys"] {
        fs::create_dir_all(host.path(folder)).unwrap();
        std::os::unix::fs::chown(host.path(folder), Some(user), Some(user)).unwrap();
    }
    let enrol = host.enrol(&hub, &hub.token());
    enrol.by_user(user).run().expect(0);
    let service = Service::of(host.agent(&["run"]).by_user(user));
    until_heartbeat(&hub, None);
    until("its note", || {
        health_file(&host)["last_heartbeat"].is_string()
    });
    service.stop().expect(0);
    assert_eq!(host.mode("var/lib/monsys/agent-signing.key"), 0o600);
}

#[test]
fn with_a_runtime_directory_the_service_writes_no_disk_while_it_runs() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    fs::create_dir_all(host.path("run/monsys")).unwrap();
    let service = host.service();
    let note = host.path("run/monsys/heartbeat.json");
    until("a heartbeat", || {
        fs::read_to_string(&note).is_ok_and(|text| text.contains("\"last_heartbeat\":\"2"))
    });
    let on_disk = health_file(&host);
    assert!(on_disk["last_heartbeat"].is_null(), "{on_disk}");
    assert!(
        on_disk["stopped_at"].is_null(),
        "a power cut would not look like a stop"
    );
    service.stop().expect(0);
    assert!(health_file(&host)["last_heartbeat"].is_string());
    assert!(health_file(&host)["stopped_at"].is_string());
    let is_stray = |name: &String| Path::new(name).extension().is_some_and(|it| it == "tmp");
    assert!(!host.names("run/monsys").iter().any(is_stray));
}

#[test]
fn a_wrong_clock_is_logged_and_heartbeats_are_accepted() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    hub.set_clock_by(3 * 3600);
    let service = host.service();
    until_heartbeat(&hub, None);
    let anomalies = hub.get("integrity")["anomalies"].clone();
    let kinds: Vec<&Value> = anomalies
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["kind"])
        .collect();
    assert_eq!(kinds, ["clock_drift"], "{anomalies}");
    let log = service.stop().expect(0).stderr;
    assert!(
        log.contains("behind the hub's") && log.contains("timedatectl"),
        "{log}"
    );
}
