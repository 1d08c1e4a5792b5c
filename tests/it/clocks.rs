//! Changes of the clock, an unstable hub, and a service that stops after its host was unenrolled.

use std::fs;
use std::time::Duration;

use mock_hub::Options;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::common::{TestHost, TestHub, until};

const JOURNAL: &str = "var/lib/monsys/heartbeat.json";
const WALL: [&str; 3] = ["last_try", "next_try", "last_heartbeat"];

fn enrolled(hub: &TestHub) -> TestHost {
    let host = TestHost::new();
    host.enrol(hub, &hub.token()).run().expect(0);
    host
}

fn health_file(host: &TestHost) -> Value {
    let text = fs::read_to_string(host.path(JOURNAL)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Returns the health file of a host whose clock was an hour ahead and was set back since.
fn from_an_hour_ahead(mut journal: Value) -> Value {
    let later = |text: &str| {
        let time = humantime::parse_rfc3339(text).unwrap() + Duration::from_hours(1);
        humantime::format_rfc3339_seconds(time).to_string()
    };
    for key in WALL {
        journal[key] = later(journal[key].as_str().unwrap()).into();
    }
    if let Some(since) = journal["failure"]["since"].as_str() {
        journal["failure"]["since"] = later(since).into();
    }
    journal
}

#[test]
fn status_is_right_after_the_hosts_clock_was_set_back() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let service = host.service();
    until("a heartbeat", || {
        health_file(&host)["last_heartbeat"].is_string()
    });
    drop(service);
    let status = |journal: &Value, code| {
        host.write_file(JOURNAL, &journal.to_string());
        let run = host.agent(&["status", "--output", "json"]).run();
        run.expect(code).json()
    };
    let ahead = from_an_hour_ahead(health_file(&host));
    let fine = status(&ahead, 0);
    assert_eq!(fine["heartbeats"], "ok");
    assert!(
        fine["last_heartbeat_age_secs"].as_u64().unwrap() < 120,
        "{fine}"
    );

    // The last accepted heartbeat was ten minutes ago; all have failed since.
    let mut failing = ahead.clone();
    failing["failure"] = json!({
        "since": failing["last_heartbeat"], "at": failing["last_heartbeat"], "tries": 20,
        "id": "unreachable", "what": "the hub cannot be reached", "cause": "", "hint": ""
    });
    let boot = &mut failing["since_boot"];
    let uptime = boot["last_try"].as_u64().unwrap();
    assert!(
        uptime > 600,
        "this machine was booted {uptime} s ago: wait for ten minutes"
    );
    boot["last_heartbeat"] = (uptime - 600).into();
    boot["failing_since"] = (uptime - 600).into();
    let report = status(&failing, 75);
    assert_eq!(report["heartbeats"], "failing", "{report}");
    assert!((600..720).contains(&report["last_heartbeat_age_secs"].as_u64().unwrap()));

    // A file of an older release or another boot: the age is unknown.
    let mut old = ahead;
    old.as_object_mut().unwrap().remove("since_boot");
    let report = status(&old, 75);
    assert_eq!(report["heartbeats"], "overdue");
    assert!(report["last_heartbeat_age_secs"].is_null(), "{report}");
    let text = host.agent(&["status"]).run().expect(75).stdout;
    assert!(
        text.contains("has not reached") && !text.contains("0s ago"),
        "{text}"
    );
}

#[test]
fn a_forged_health_file_breaks_nothing() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let service = host.service();
    until("a heartbeat", || {
        health_file(&host)["last_heartbeat"].is_string()
    });
    drop(service);
    let good = health_file(&host);
    let id = good["since_boot"]["boot_id"].clone();
    for since_boot in [
        json!({"boot_id": id, "last_heartbeat": u64::MAX, "next_try": u64::MAX}),
        json!({"boot_id": "\u{1b}[2J\u{202e}", "last_heartbeat": 0}),
        json!({"boot_id": id, "last_heartbeat": -1}),
        json!(["\u{1b}[2J"]),
        json!(null),
    ] {
        let mut bad = good.clone();
        bad["since_boot"] = since_boot;
        host.write_file(JOURNAL, &bad.to_string());
        let run = host.agent(&["status"]).run();
        assert!([0, 75].contains(&run.code), "{run:?}");
        assert!(!run.stdout.contains(['\u{1b}', '\u{202e}']), "{run:?}");
        // The service continues from this file.
        let before = hub.agents()[0]["last_heartbeat"]["captured_at"].clone();
        let service = host.service();
        until("a heartbeat", || {
            hub.agents()[0]["last_heartbeat"]["captured_at"] != before
        });
        service.stop().expect(0);
        assert_eq!(health_file(&host)["since_boot"]["boot_id"], id);
    }
}

/// 200, 503, 401 and 500 in turn: each kind of failure is logged once, and repetitions are not.
#[test]
fn an_unstable_hub_causes_few_log_lines() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    for _ in 0..6 {
        for status in [204, 503, 401, 500] {
            let body = if status == 401 {
                "unauthorized"
            } else {
                "fault"
            };
            let body = json!({"error": body}).to_string();
            hub.fault(match status {
                204 => json!({"route": "heartbeat", "status": status}),
                _ => json!({"route": "heartbeat", "status": status, "body": body}),
            });
        }
    }
    let pending_faults = || hub.get("faults")["faults"].as_array().unwrap().len();
    let service = host.service();
    until("the first of them", || pending_faults() < 24);
    until("all of them", || {
        service.signal(Signal::SIGHUP);
        pending_faults() == 0
    });
    let log = service.stop().expect(0).stderr;
    let lines = |part: &str| log.matches(part).count();
    assert!(lines("own credential") >= 1 && lines("503") >= 1, "{log}");
    let all = lines("a heartbeat failed") + lines("accepts heartbeats again");
    assert!((2..=8).contains(&all), "{all} lines of 24 tries: {log}");
}

#[test]
fn a_service_of_an_unenrolled_host_writes_nothing_when_it_stops() {
    for has_run in [false, true] {
        let hub = TestHub::new();
        let host = enrolled(&hub);
        if has_run {
            fs::create_dir_all(host.path("run/monsys")).unwrap();
        }
        let note = host.path(if has_run {
            "run/monsys/heartbeat.json"
        } else {
            JOURNAL
        });
        let service = host.service();
        until("a heartbeat", || {
            fs::read_to_string(&note).is_ok_and(|text| text.contains("\"last_heartbeat\":\"2"))
        });
        host.agent(&["unenrol"]).run().expect(0);
        service.stop();
        assert!(!note.exists());
        assert_eq!(host.names("var/lib/monsys"), ["lock"]);
    }
}

/// A change of the hub's clock looks like the opposite change of the host's clock.
#[test]
fn the_service_survives_every_clock_change() {
    const YEARS: i64 = 31_557_600;
    // The hub allows ten requests a second.
    let hub = TestHub::with(Options {
        heartbeat_interval_secs: 1,
        ..Options::default()
    });
    let host = enrolled(&hub);
    let service = host.service();
    let taken = || hub.agents()[0]["last_heartbeat"]["captured_at"].clone();
    until("a heartbeat", || taken().is_string());
    for step in [30, -30, 3600, -3600, 40 * YEARS, -40 * YEARS] {
        hub.set_clock_by(step);
        let before = taken();
        service.signal(Signal::SIGHUP);
        until("a heartbeat by the new clock", || taken() != before);
    }
    // A hub's date in 1970 or 9999 is rejected.
    for step in [-100 * YEARS, 9000 * YEARS] {
        hub.set_clock_by(step);
        service.signal(Signal::SIGHUP);
        until("a refusal", || {
            let failure = &health_file(&host)["failure"];
            failure["id"] == "refused" && failure["ended_at"].is_null()
        });
        let before = taken();
        hub.set_clock_by(-step);
        service.signal(Signal::SIGHUP);
        until("a heartbeat", || taken() != before);
        until("its note", || {
            health_file(&host)["failure"]["ended_at"].is_string()
        });
    }
    let log = service.stop().expect(0).stderr;
    assert_eq!(log.matches("is not plausible").count(), 1, "{log}");
}
