//! Responses that violate the protocol: a clear error, exit code 76, no file written.

use serde_json::{Value, json};

use crate::common::{TestHost, TestHub};

const ID: &str = "6f1c2a1e-8f0e-4a55-9a3c-0d8f5f3b7f10";

#[track_caller]
fn expect(fault: Value, code: i32, message: &[&str]) {
    let (hub, host) = (TestHub::new(), TestHost::new());
    hub.fault(fault);
    host.enrol(&hub, &hub.token())
        .run()
        .expect(code)
        .expect_stderr(message);
    assert!(!host.path("etc/monsys/agent.toml").exists());
    assert!(!host.path("var/lib/monsys/agent-id").exists());
    // The next run succeeds without a second use.
    host.enrol(&hub, &hub.token()).run().expect(0);
    assert_eq!(hub.agents().len(), 1);
}

fn body(body: &Value) -> Value {
    json!({"route": "enrol", "body": body.to_string()})
}

#[test]
fn a_missing_token_is_rejected() {
    expect(body(&json!({"agent_id": ID})), 76, &["no `agent_token`"]);
}

#[test]
fn a_token_of_another_kind_is_rejected() {
    for token in ["enrl_abcdef", "abcdef", "", "agt_", "agt_a b"] {
        expect(
            body(&json!({"agent_id": ID, "agent_token": token})),
            76,
            &["agent_token"],
        );
    }
}

#[test]
fn a_missing_or_malformed_id_is_rejected() {
    expect(
        body(&json!({"agent_token": "agt_abcdef"})),
        76,
        &["lacks a field"],
    );
    expect(
        body(&json!({"agent_id": "../../etc/passwd", "agent_token": "agt_abcdef"})),
        76,
        &["wrong type"],
    );
}

/// Returns an accepted enrolment with this field.
fn accepted(field: &str, text: &str) -> Value {
    let body = format!(r#"{{"agent_id": "{ID}", "agent_token": "agt_abcdef", "{field}": {text}}}"#);
    json!({"route": "enrol", "body": body})
}

const FIELDS: [&str; 5] = [
    "default_tags",
    "default_role",
    "tags",
    "role",
    "heartbeat_interval_secs",
];
const ODD: [&str; 12] = [
    "null",
    "[]",
    "{}",
    "true",
    "\"30\"",
    "-1",
    "30.5",
    "1e999",
    "18446744073709551616",
    "[null]",
    "[1, {}]",
    "\"\\ud800\"",
];

#[test]
fn an_odd_optional_field_does_not_cost_the_credential() {
    let hub = TestHub::new();
    for field in FIELDS {
        let token = hub.token();
        for text in ODD {
            let host = TestHost::new();
            hub.fault(accepted(field, text));
            let run = host.enrol(&hub, &token).run().expect(0);
            assert_eq!(host.key("agent_id").unwrap(), ID, "{field} {text}");
            let is_silent = !run.stderr.contains("ignored");
            assert!(text != "null" || is_silent, "{field}: {}", run.stderr);
            host.agent(&["status"]).run();
        }
    }
    let token = hub.token();
    for (field, text) in [
        ("default_tags", "{}"),
        ("default_role", "[]"),
        ("heartbeat_interval_secs", "\"7777\""),
    ] {
        let host = TestHost::new();
        hub.fault(accepted(field, text));
        let run = host.enrol(&hub, &token).run().expect(0);
        let run = run.expect_stderr(&[
            &format!("`{field}` of the response is ignored"),
            "wrong type",
        ]);
        assert!(!run.stderr.contains("7777"), "{}", run.stderr);
    }
}

#[test]
fn a_registration_takes_odd_fields_too() {
    for text in ["null", "{}", "[null, 1]"] {
        let (hub, host) = (TestHub::new(), TestHost::new());
        let (token, id) = hub.per_agent_token(json!({}));
        let body = format!(
            r#"{{"agent_id": "{id}", "agent_token": {text}, "default_tags": {text}, "default_role": {text}}}"#
        );
        hub.fault(json!({"route": "register", "body": body}));
        host.enrol(&hub, &token).run().expect(0);
        assert_eq!(host.key("agent_id").unwrap(), id);
    }
}

#[test]
fn an_invalid_default_tag_is_dropped() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let many: Vec<String> = (0..70).map(|tag| format!("t{tag}")).collect();
    let long = "x".repeat(129);
    let tags = json!(["good", "a\nb", "a,b", long, "", 7, null, "last"]).to_string();
    hub.fault(accepted("default_tags", &tags));
    let run = host.enrol(&hub, &hub.token()).run().expect(0);
    run.expect_stderr(&[
        "default_tags[1]",
        "control character",
        "default_tags[2]",
        "comma",
        "default_tags[3]",
    ]);
    assert_eq!(host.key("tags").unwrap(), r#"["good", "last"]"#);

    let host = TestHost::new();
    hub.fault(accepted("default_tags", &json!(many).to_string()));
    let run = host.enrol(&hub, &hub.token()).run().expect(0);
    run.expect_stderr(&["at most 64"]);
    assert!(host.key("tags").unwrap().ends_with(r#""t63"]"#));

    let host = TestHost::new();
    hub.fault(accepted("default_role", &json!("a\nb").to_string()));
    let run = host.enrol(&hub, &hub.token()).run().expect(0);
    run.expect_stderr(&["`default_role`"]);
    assert_eq!(host.key("role"), None);
}

#[test]
fn invalid_utf_8_is_rejected() {
    expect(
        json!({"route": "enrol", "body_base64": "//79/A=="}),
        76,
        &["not UTF-8"],
    );
}

#[test]
fn a_body_that_is_not_json_is_rejected() {
    expect(
        json!({"route": "enrol", "body": "{\"agent_id\": "}),
        76,
        &["is not JSON"],
    );
}

#[test]
fn a_body_over_the_limit_is_rejected() {
    expect(
        json!({"route": "enrol", "body_bytes": 2 * 1024 * 1024}),
        76,
        &["larger than 1 MiB"],
    );
}

#[test]
fn a_captive_portal_is_recognised() {
    expect(
        json!({"route": "enrol", "body": "<html>Log in to the Wi-Fi</html>", "content_type": "text/html; charset=utf-8"}),
        76,
        &["text/html", "captive portal"],
    );
}

#[test]
fn a_redirect_to_another_host_is_not_followed() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let elsewhere = TestHub::new();
    let location = format!("{}/api/v1/agents/enrol", elsewhere.url());
    hub.fault(json!({"route": "enrol", "status": 307, "location": location}));
    host.enrol(&hub, &hub.token())
        .run()
        .expect(76)
        .expect_stderr(&["redirects are not followed", &elsewhere.url()]);
    assert!(!host.path("etc/monsys/agent.toml").exists());
}

#[test]
fn a_rejection_quotes_the_text_of_the_hub() {
    for status in [400, 404, 409, 413, 415, 422, 418, 501] {
        expect(
            json!({"route": "enrol", "status": status, "body": "{\"message\":\"no \\u001b[31mway\"}"}),
            65,
            &[&status.to_string(), "it says: \"no \\u{1b}[31mway\""],
        );
    }
}

#[test]
fn unknown_fields_are_ignored() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    hub.fault(body(&json!({
        "agent_id": ID, "agent_token": "agt_abcdef", "default_tags": ["a"], "default_role": null,
        "tags": ["a"], "role": null, "heartbeat_interval_secs": 30, "extra": {"deep": [1, 2]},
    })));
    host.enrol(&hub, &hub.token()).run().expect(0);
    assert_eq!(host.key("agent_id").unwrap(), ID);
    assert_eq!(host.key("role"), None);
}
