//! `run`: heartbeats of the real service at the real hub.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::common::{Service, TestHost, TestHub, needs_root, until};

const JOURNAL: &str = "var/lib/monsys/heartbeat.json";

fn enrolled(hub: &TestHub) -> TestHost {
    let host = TestHost::new();
    host.enrol(hub, &hub.token()).run().expect(0);
    host
}

/// When the hub's only agent captured its last heartbeat.
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

fn journal(host: &TestHost) -> Value {
    let text = fs::read_to_string(host.path(JOURNAL)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Waits until the service has written down a failure of this id.
fn until_failure(host: &TestHost, id: &str) {
    until(id, || journal(host)["failure"]["id"] == *id);
}

#[test]
fn the_first_heartbeat_is_sent_at_once_signed_and_whole() {
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
    until("its note", || journal(&host)["last_heartbeat"].is_string());
    let run = service
        .stop()
        .expect(0)
        .says(&["takes this host's heartbeats"]);
    assert!(run.stdout.is_empty(), "{}", run.stdout);
    assert!(journal(&host)["stopped_at"].is_string());
}

#[test]
fn stops_at_once_also_while_the_hub_says_nothing() {
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

/// Whether the hub has begun to answer what it was told to answer late.
fn fault_is_spent(hub: &TestHub) -> bool {
    hub.get("faults")["faults"] == json!([])
}

#[test]
fn a_host_that_is_not_enrolled_and_has_no_token_says_what_to_do() {
    let host = TestHost::new();
    let run = host.agent(&["run"]).run().expect(78);
    run.says(&["not enrolled", "MONSYS_TOKEN=enrl_… monsys-agent enrol"]);
    assert!(!host.path("var/lib/monsys").exists(), "it writes nothing");
}

#[test]
fn a_prepared_host_enrols_itself_and_goes_on() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.lay("run/token", &hub.token());
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
fn a_credential_of_the_service_manager_enrols_it_as_well() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let ca_file = host.install_ca(&hub).unwrap();
    host.lay("credentials/monsys-token", &hub.token());
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
fn a_token_that_is_refused_ends_it_with_the_enrolments_code() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let ca_file = host.install_ca(&hub).unwrap();
    host.agent(&["run"])
        .env("MONSYS_HUB_URL", &hub.url())
        .env("MONSYS_CA_FILE", ca_file.to_str().unwrap())
        .env("MONSYS_TOKEN", "enrl_wrong")
        .run()
        .expect(77)
        .says(&["rejected"]);
}

#[test]
fn a_clone_never_speaks_as_the_host_it_was_copied_from() {
    let hub = TestHub::new();
    let original = enrolled(&hub);
    let clone = original.copy();
    clone.lay("etc/machine-id", "fedcba9876543210fedcba9876543210\n");
    clone
        .agent(&["run"])
        .run()
        .expect(78)
        .says(&["cloned from"]);
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
fn goes_on_through_an_outage_and_tells_it_once() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    hub.fault(json!({"route": "heartbeat", "status": 503, "times": 4}));
    let service = host.service();
    until_heartbeat(&hub, None);
    until("the end of the failure", || {
        journal(&host)["failure"]["ended_at"].is_string()
    });
    let failure = journal(&host)["failure"].clone();
    assert_eq!(
        (&failure["id"], &failure["tries"]),
        (&json!("unreachable"), &json!(4))
    );
    let run = service.stop().expect(0).says(&["takes heartbeats again"]);
    assert_eq!(
        run.stderr.matches("a heartbeat failed").count(),
        1,
        "{}",
        run.stderr
    );
}

#[test]
fn a_rotated_token_is_an_explained_state_and_a_new_one_is_taken_without_a_restart() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let service = host.service();
    let first = until_heartbeat(&hub, None);
    let old = host.key("agent_token").unwrap();
    let id = host.key("agent_id").unwrap();
    let new = hub.post(&format!("agents/{id}/rotate-token"), json!({}))["token"].clone();
    service.signal(Signal::SIGHUP);
    until_failure(&host, "rejected");
    assert!(
        journal(&host)["failure"]["hint"]
            .as_str()
            .unwrap()
            .contains("rotate-token")
    );

    let text = host.agent_toml().replace(&old, new.as_str().unwrap());
    host.lay("etc/monsys/agent.toml", &text);
    service.signal(Signal::SIGHUP);
    until_heartbeat(&hub, Some(&first));
    service.stop().expect(0);
}

#[test]
fn a_broken_agent_toml_is_told_and_the_heartbeats_go_on() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let service = host.service();
    let first = until_heartbeat(&hub, None);
    host.lay("etc/monsys/agent.toml", "broken = \n");
    service.signal(Signal::SIGHUP);
    until_heartbeat(&hub, Some(&first));
    service
        .stop()
        .expect(0)
        .says(&["agent.toml is broken", "going on as before"]);
}

#[test]
fn a_credential_that_is_taken_away_ends_it() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let service = host.service();
    until_heartbeat(&hub, None);
    host.lay("etc/monsys/agent.toml", "# nothing\n");
    service.signal(Signal::SIGHUP);
    service.end().expect(78).says(&["holds none now"]);
}

#[test]
fn tells_the_service_manager_what_goes_on() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let path = host.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_mins(1)))
        .unwrap();
    let heard = || {
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
    assert!(heard().contains("READY=1\nSTATUS=agent "), "{id}");
    let status = heard();
    assert!(
        status.contains("heartbeats go out (the last taken at 2"),
        "{status}"
    );
    assert!(heard().starts_with("WATCHDOG=1"));
    service.signal(Signal::SIGHUP);
    let next = |wanted: &str| while !heard().contains(wanted) {};
    next("RELOADING=1\nMONOTONIC_USEC=");
    next("READY=1");
    service.signal(Signal::SIGTERM);
    next("STOPPING=1");
    service.end().expect(0);
}

#[test]
fn runs_as_the_one_user_who_owns_everything_and_alone_can_read_the_key() {
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
    until("its note", || journal(&host)["last_heartbeat"].is_string());
    service.stop().expect(0);
    assert_eq!(host.mode("var/lib/monsys/agent-signing.key"), 0o600);
}

#[test]
fn where_the_system_keeps_a_folder_in_memory_no_disk_is_written_while_it_runs() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    fs::create_dir_all(host.path("run/monsys")).unwrap();
    let service = host.service();
    let note = host.path("run/monsys/heartbeat.json");
    until("a heartbeat", || {
        fs::read_to_string(&note).is_ok_and(|text| text.contains("\"last_heartbeat\":\"2"))
    });
    let on_disk = journal(&host);
    assert!(on_disk["last_heartbeat"].is_null(), "{on_disk}");
    assert!(
        on_disk["stopped_at"].is_null(),
        "a power cut would not look like a stop"
    );
    service.stop().expect(0);
    assert!(journal(&host)["last_heartbeat"].is_string());
    assert!(journal(&host)["stopped_at"].is_string());
    let is_stray = |name: &String| Path::new(name).extension().is_some_and(|it| it == "tmp");
    assert!(!host.names("run/monsys").iter().any(is_stray));
}

#[test]
fn a_host_whose_clock_is_wrong_is_heard_after_the_operator_was_told() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    hub.advance_clock(Duration::from_hours(3));
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
    let told = service.stop().expect(0).stderr;
    assert!(
        told.contains("behind the hub's") && told.contains("timedatectl"),
        "{told}"
    );
}
