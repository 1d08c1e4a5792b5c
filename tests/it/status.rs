//! `status`: the check after an enrolment.

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use crate::common::{TestHost, TestHub, until};

#[test]
fn status_reports_whether_where_and_as_which_agent() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let before = host.agent(&["status"]).run().expect(78);
    assert!(before.stdout.contains("not enrolled"), "{}", before.stdout);
    assert!(before.stdout.contains("monsys-agent enrol"));
    assert!(!host.path("etc/monsys").exists(), "status writes nothing");

    host.enrol_with(&hub, &hub.token(), &["--tag", "shard-3"])
        .run()
        .expect(0);
    let run = host.agent(&["status"]).run().expect(0);
    for part in [hub.url().as_str(), "shard-3", "web", "present"] {
        assert!(run.stdout.contains(part), "{}", run.stdout);
    }
    let json = host
        .agent(&["status", "--output", "json"])
        .run()
        .expect(0)
        .json();
    assert_eq!(json["enrolled"], true);
    assert_eq!(json["agent_id"], hub.agents()[0]["agent_id"]);
    assert!(!json.to_string().contains("agt_"));
}

#[test]
fn a_lost_key_is_reported() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    std::fs::remove_file(host.path("var/lib/monsys/agent-signing.key")).unwrap();
    let run = host.agent(&["status"]).run().expect(78);
    assert!(run.stdout.contains("lost"), "{}", run.stdout);
}

/// Monitoring reads only the exit code.
#[test]
fn status_reports_missing_heartbeats() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    let status = |code| {
        let run = host.agent(&["status", "--output", "json"]).run();
        run.expect(code).json()
    };
    let word = |json: &serde_json::Value| json["heartbeats"].as_str().unwrap().to_owned();
    assert_eq!(word(&status(0)), "none", "the service was never started");

    let service = host.service();
    until("a heartbeat", || word(&status(0)) == "ok");
    let fine = status(0);
    assert!(fine["last_heartbeat"].is_string());
    assert!(fine["last_heartbeat_age_secs"].as_u64().unwrap() < 60);
    assert!(fine["last_failure"].is_null());

    let id = host.key("agent_id").unwrap();
    hub.post(&format!("agents/{id}/rotate-token"), serde_json::json!({}));
    service.signal(Signal::SIGHUP);
    until("a refusal", || host.agent(&["status"]).run().code == 75);
    let failing = status(75);
    assert_eq!(word(&failing), "failing");
    assert_eq!(failing["last_failure"]["id"], "forgotten");
    assert_eq!(failing["last_heartbeat"], fine["last_heartbeat"]);
    let text = host.agent(&["status"]).run().expect(75).stdout;
    for part in ["FAILING", "last failure", "rotate-token", "doctor"] {
        assert!(text.contains(part), "{text}");
    }
    service.stop().expect(0);
    assert_eq!(word(&status(75)), "stopped");
}

#[test]
fn a_service_that_was_killed_is_overdue_in_time() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    let service = host.service();
    let note = host.path("var/lib/monsys/heartbeat.json");
    let read = || std::fs::read_to_string(&note).unwrap_or_default();
    until("a heartbeat", || read().contains("\"last_heartbeat\":\"2"));
    drop(service);
    let text = read();
    let mut old: serde_json::Value = serde_json::from_str(&text).unwrap();
    for key in ["last_try", "next_try", "last_heartbeat"] {
        assert!(old[key].is_string(), "{old}");
        old[key] = "2020-01-01T00:00:00Z".into();
    }
    // As after a boot.
    old["since_boot"]["boot_id"] = "00000000-0000-4000-8000-000000000000".into();
    host.write_file("var/lib/monsys/heartbeat.json", &old.to_string());
    let run = host.agent(&["status"]).run().expect(75);
    assert!(run.stdout.contains("OVERDUE"), "{}", run.stdout);
    // The health file of another agent is ignored.
    let other = TestHost::new();
    other.enrol(&hub, &hub.token()).run().expect(0);
    other.write_file("var/lib/monsys/heartbeat.json", &text);
    other.agent(&["status"]).run().expect(0);
}

#[test]
fn the_hub_is_asked_on_request() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    let ask = || {
        host.agent(&["status", "--check-hub", "--output", "json"])
            .run()
    };
    assert_eq!(ask().expect(0).json()["hub_accepts"], true);
    let plain = host.agent(&["status", "--output", "json"]).run().expect(0);
    assert!(plain.json().get("hub_accepts").is_none());
    // The host's clock does not matter.
    hub.set_clock_by(3 * 3600);
    assert_eq!(ask().expect(0).json()["hub_accepts"], true);
    let id = host.key("agent_id").unwrap();
    hub.post(&format!("agents/{id}/rotate-token"), serde_json::json!({}));
    let refused = ask().expect(77);
    assert_eq!(refused.json()["hub_accepts"], false);
    assert_eq!(refused.json()["error"]["id"], "forgotten");
    drop(hub);
    assert_eq!(ask().expect(69).json()["error"]["id"], "unreachable");
}

/// Monitoring runs as a user of its own, who may not read agent.toml.
#[test]
#[ignore = "needs root: gives files to other users"]
fn any_user_sees_what_the_service_reports() {
    const MONITORING: u32 = 54_322;
    let (hub, host) = (TestHub::new(), TestHost::with_service_user());
    host.enrol(&hub, &hub.token()).run().expect(0);
    host.agent(&["prepare"]).run().expect(0);
    let status = |more: &[&str]| {
        let arguments = [&["status", "--output", "json"], more].concat();
        host.agent(&arguments).by_user(MONITORING).run()
    };
    assert_eq!(status(&[]).expect(75).json()["heartbeats"], "none");
    let service = host.unprivileged_service();
    until("a heartbeat", || status(&[]).code == 0);
    let good = status(&[]).expect(0).json();
    assert_eq!(good["heartbeats"], "ok");
    assert_eq!(good["agent_id"], hub.agents()[0]["agent_id"]);
    // This user has no credential to ask the hub with.
    status(&["--check-hub"]).expect(74);
    // No command blames a write, also when the folder is closed too.
    for mode in [0o755, 0o700] {
        let folder = host.path("etc/monsys");
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).unwrap();
        for command in [&["doctor"][..], &["unenrol"], &["status", "--check-hub"]] {
            let run = host.agent(command).by_user(MONITORING).run();
            let said = format!("{}{}", run.stdout, run.stderr);
            for part in ["cannot be read", "no permission to read it", "sudo"] {
                let part = match part {
                    "cannot be read" if command[0] == "status" => "could not be read",
                    part => part,
                };
                assert!(said.contains(part), "{command:?}: {said}");
            }
            assert!(!said.contains("cannot be written"), "{command:?}: {said}");
        }
    }
    service.stop().expect(0);
    assert_eq!(status(&[]).expect(75).json()["heartbeats"], "stopped");
}
