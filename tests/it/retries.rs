//! Retries: which failures are retried, and that no retry spends a second use.

use std::process::Command;

use serde_json::{Value, json};

use crate::common::{TestHost, TestHub};

/// Injects a fault once, and checks that the host still enrols with one slot.
#[track_caller]
fn survives(fault: Value, seen: &str) {
    let (hub, host) = (TestHub::new(), TestHost::new());
    hub.fault(fault);
    host.enrol(&hub, &hub.token())
        .run()
        .expect(0)
        .expect_stderr(&["try 1", seen, "next try in"]);
    hub.expect_one_slot();
}

#[test]
fn a_temporary_status_is_retried() {
    for status in [408, 425, 429, 500, 502, 503, 504, 507, 520, 522, 530, 599] {
        survives(
            json!({"route": "enrol", "status": status}),
            &format!("HTTP {status}"),
        );
    }
}

#[test]
fn a_reset_before_the_commit_is_retried() {
    survives(
        json!({"route": "enrol", "reset": "before"}),
        "the connection broke before an answer",
    );
}

#[test]
fn a_response_lost_after_the_commit_is_retried() {
    survives(
        json!({"route": "enrol", "reset": "after"}),
        "the connection broke before an answer",
    );
}

#[test]
fn a_truncated_response_is_retried() {
    survives(
        json!({"route": "enrol", "truncate_at": 20}),
        "the connection broke",
    );
}

#[test]
fn a_zero_retry_after_is_retried_in_either_format() {
    for retry_after in ["0", "Sun, 06 Nov 1994 08:49:37 GMT"] {
        survives(
            json!({"route": "enrol", "status": 429, "retry_after": retry_after}),
            "HTTP 429",
        );
    }
}

#[test]
fn a_retry_after_beyond_the_deadline_fails_at_once() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    for (retry_after, message) in [
        ("3600", "asks to wait 1h"),
        ("18446744073709551615", "asks to wait"),
        ("Fri, 31 Dec 9999 23:59:59 GMT", "asks to wait"),
    ] {
        hub.fault(json!({"route": "enrol", "status": 503, "retry_after": retry_after}));
        host.enrol(&hub, &hub.token())
            .run()
            .expect(69)
            .expect_stderr(&["HTTP 503", message, "run the same command again"]);
    }
    assert_eq!(hub.spent(), 0);
}

#[test]
fn a_splay_does_not_shorten_the_deadline() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol_with(&hub, &hub.token(), &["--splay", "2s", "--wait", "1s"])
        .run()
        .expect(0)
        .expect_stderr(&["(splay)"]);
}

#[test]
fn an_unreachable_hub_is_reported_at_the_deadline() {
    let host = TestHost::new();
    host.agent(&["enrol", "--hub-url", "https://127.0.0.1:1", "--wait", "0s"])
        .env("MONSYS_TOKEN", "enrl_x1")
        .run()
        .expect(69)
        .expect_stderr(&["https://127.0.0.1:1", "refused", "1 try"]);
    host.agent(&["enrol", "--hub-url", "https://hub.invalid", "--wait", "0s"])
        .env("MONSYS_TOKEN", "enrl_x1")
        .run()
        .expect(69)
        .expect_stderr(&["hub.invalid"]);
}

#[test]
fn the_next_run_recovers_from_a_lost_response_and_an_aborted_run() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let token = hub.token();
    hub.fault(json!({"route": "enrol", "reset": "after"}));
    host.enrol_with(&hub, &token, &["--wait", "0s"])
        .run()
        .expect(69);
    assert_eq!(hub.spent(), 1);
    assert!(!host.path("etc/monsys/agent.toml").exists());
    let run = host
        .enrol_with(&hub, &token, &["--output", "json"])
        .run()
        .expect(0);
    assert_eq!(run.json()["result"], "recovered");
    hub.expect_one_slot();
}

#[test]
fn a_terminal_shows_a_countdown() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    hub.fault(json!({"route": "enrol", "status": 503, "retry_after": 1}));
    let command = host.enrol(&hub, &hub.token());
    let line = command.line();
    let run = command
        .instead(Command::new("script").args(["-qec", &line, "/dev/null"]))
        .run()
        .expect(0);
    let counted = "\r\u{1b}[2Knext try in ";
    assert!(run.stdout.contains(counted), "{:?}", run.stdout);
    assert!(
        run.stdout.contains("\r\u{1b}[2KEnrolled"),
        "{:?}",
        run.stdout
    );
}
