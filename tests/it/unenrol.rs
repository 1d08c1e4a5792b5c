//! `unenrol`: the hub is notified, then the credential is removed, and nothing of the user's.

use std::fs;

use serde_json::json;

use crate::common::{TestHost, TestHub, keys, until};

const STATE: &str = "var/lib/monsys/state.json";

fn enrolled(hub: &TestHub) -> TestHost {
    let host = TestHost::new();
    host.write_file(
        "etc/monsys/agent.toml",
        "# mine\nlog_dir = '/srv' # kept\n\n[plugins]\ncpu = true\n",
    );
    host.enrol_with(hub, &hub.token(), &["--tag", "own"])
        .run()
        .expect(0);
    host
}

#[track_caller]
fn expect_clean(host: &TestHost) {
    assert_eq!(host.names("var/lib/monsys"), ["lock"]);
    for key in ["agent_id", "agent_token"] {
        assert_eq!(host.key(key), None, "{}", host.agent_toml());
    }
    host.agent(&["status"]).run().expect(78);
}

#[test]
fn unenrol_removes_the_agent_and_preserves_foreign_keys() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let json = host
        .agent(&["unenrol", "--output", "json"])
        .run()
        .expect(0)
        .json();
    assert_eq!(
        keys(&json),
        [
            "agent_id",
            "changed",
            "config",
            "hub_notified",
            "hub_url",
            "result",
            "would_enrol_again"
        ]
    );
    assert_eq!(
        (&json["result"], &json["changed"]),
        (&json!("left"), &json!(true))
    );
    assert!(hub.agents().is_empty());
    expect_clean(&host);
    let text = host.agent_toml();
    for part in [
        "# mine\n",
        "log_dir = '/srv' # kept\n",
        "[plugins]\ncpu = true",
    ] {
        assert!(text.contains(part), "{text}");
    }
    // Values from the token's defaults are removed too.
    assert_eq!(host.key("tags").unwrap(), r#"["own"]"#);
    assert_eq!(host.key("role"), None);
    assert_eq!(host.key("hub_url").unwrap(), hub.url());

    let again = host
        .agent(&["unenroll", "--output", "json"])
        .run()
        .expect(0)
        .json();
    assert_eq!(
        (&again["result"], &again["changed"]),
        (&json!("not_enrolled"), &json!(false))
    );
    host.enrol(&hub, &hub.token()).run().expect(0);
    assert_eq!(hub.agents().len(), 1);
}

#[test]
fn a_foreign_comment_keeps_its_place() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let text = host.agent_toml();
    let text = text.replace("agent_token =", "# rotate in May\nagent_token =");
    host.write_file("etc/monsys/agent.toml", &text);
    host.agent(&["unenrol"]).run().expect(0);
    let text = host.agent_toml();
    assert!(
        text.contains("# rotate in May\nagent_token = \"\"\n"),
        "{text}"
    );
    host.agent(&["status"]).run().expect(78);
}

#[test]
fn a_running_service_stops_and_leaves_no_file() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    fs::create_dir_all(host.path("run/monsys")).unwrap();
    let service = host.service();
    let note = host.path("run/monsys/heartbeat.json");
    until("its note", || note.exists());
    host.agent(&["unenrol"]).run().expect(0);
    service.signal(nix::sys::signal::Signal::SIGHUP);
    service.end().expect(78);
    assert!(!note.exists());
    expect_clean(&host);
}

#[test]
fn a_hub_without_the_agent_is_explained_and_force_cleans_up() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let copy = host.copy();
    copy.agent(&["unenrol"]).run().expect(0);
    let before = host.agent_toml();
    host.agent(&["unenrol"])
        .run()
        .expect(77)
        .expect_stderr(&["removed this host already", "unenrol --force"]);
    assert_eq!(host.agent_toml(), before);
    let state = fs::read_to_string(host.path(STATE)).unwrap();
    assert!(
        !state.contains("leaving"),
        "a definite rejection leaves no pending unenrolment"
    );
    let json = host
        .agent(&["unenrol", "--force", "--output", "json"])
        .run()
        .expect(0)
        .json();
    assert_eq!(
        (&json["result"], &json["hub_notified"]),
        (&json!("removed"), &json!(false))
    );
    expect_clean(&host);
}

#[test]
fn an_unreachable_hub_is_waited_for_except_with_force() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let before = host.agent_toml();
    hub.fault(json!({"route": "delete", "status": 503, "times": 1}));
    host.agent(&["unenrol", "--wait", "0"]).run().expect(69);
    assert_eq!(host.agent_toml(), before);
    host.agent(&["unenrol"]).run().expect(0);
    assert!(hub.agents().is_empty());

    let host = enrolled(&hub);
    hub.fault(json!({"route": "delete", "status": 503, "times": 1}));
    host.agent(&["unenrol", "--force"])
        .run()
        .expect(0)
        .expect_stderr(&["may still list this host"]);
    expect_clean(&host);
    assert_eq!(hub.agents().len(), 1);
}

#[test]
fn a_lost_acceptance_is_recognised() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    hub.fault(json!({"route": "delete", "reset": "after", "times": 1}));
    host.agent(&["unenrol", "--wait", "0"]).run().expect(69);
    let status = host.agent(&["status", "--output", "json"]).run().expect(75);
    assert_eq!(status.json()["leaving"], true);
    // The hub may not know the agent any more, so this must not report success.
    host.agent(&["enrol"])
        .run()
        .expect(77)
        .expect_stderr(&["to complete it: monsys-agent unenrol"]);
    let json = host
        .agent(&["unenrol", "--output", "json"])
        .run()
        .expect(0)
        .json();
    assert_eq!(
        (&json["result"], &json["hub_notified"]),
        (&json!("left"), &json!(true))
    );
    expect_clean(&host);

    // The same in one run: the second try gets the response that the agent is gone.
    let host = enrolled(&hub);
    hub.fault(json!({"route": "delete", "reset": "after", "times": 1}));
    host.agent(&["unenrol"]).run().expect(0);
    expect_clean(&host);
    assert!(hub.agents().is_empty());
}

#[test]
fn a_plain_run_enrols_again_after_an_interrupted_unenrolment() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    hub.fault(json!({"route": "delete", "reset": "before", "times": 1}));
    host.agent(&["unenrol", "--wait", "0"]).run().expect(69);
    host.agent(&["enrol"]).run().expect(0);
    let status = host.agent(&["status", "--output", "json"]).run().expect(0);
    assert_eq!(status.json()["leaving"], false);
    hub.expect_one_slot();
}

#[test]
fn a_clone_does_not_unenrol_the_original() {
    let hub = TestHub::new();
    let original = enrolled(&hub);
    let clone = original.copy();
    clone.write_file("etc/machine-id", "fedcba9876543210fedcba9876543210\n");
    clone
        .agent(&["unenrol"])
        .run()
        .expect(78)
        .expect_stderr(&["cloned from"]);
    clone.agent(&["unenrol", "--force"]).run().expect(0);
    expect_clean(&clone);
    assert_eq!(hub.agents().len(), 1);
    original
        .agent(&["enrol", "--tag", "signed"])
        .run()
        .expect(0);
}

#[test]
fn a_lost_key_is_reported_and_force_cleans_up() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    fs::remove_file(host.path("var/lib/monsys/agent-signing.key")).unwrap();
    host.agent(&["unenrol"])
        .run()
        .expect(78)
        .expect_stderr(&["an operator deletes the agent", "--force"]);
    host.agent(&["unenrol", "--force"]).run().expect(0);
    expect_clean(&host);
}

#[test]
fn the_key_of_an_interrupted_enrolment_stays_unless_forced() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let token = hub.token();
    hub.fault(json!({"route": "enrol", "reset": "after", "times": 1}));
    host.enrol(&hub, &token).run().expect(0);
    let host = TestHost::new();
    hub.fault(json!({"route": "enrol", "reset": "after", "times": 1}));
    host.enrol_with(&hub, &token, &["--wait", "0"])
        .run()
        .expect(69);
    let json = host
        .agent(&["unenrol", "--output", "json"])
        .run()
        .expect(0)
        .json();
    assert_eq!(json["changed"], false);
    assert!(host.path("var/lib/monsys/agent-signing.key").exists());
    host.agent(&["unenrol", "--force"]).run().expect(0);
    assert_eq!(host.names("var/lib/monsys"), ["lock"]);
}

#[test]
fn unenrol_warns_if_the_next_start_would_enrol_again() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.write_file("run/token", &hub.token());
    host.write_file("etc/monsys/agent.toml", "token_file = '/run/token'\n");
    host.enrol(&hub, "").run().expect(0);
    let run = host.agent(&["unenrol"]).run().expect(0);
    assert!(run.stdout.contains("systemctl disable"), "{}", run.stdout);
}
