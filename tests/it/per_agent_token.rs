//! Per-agent tokens: stored unchanged, and `register` pins the key.

use serde_json::json;

use crate::common::{TestHost, TestHub};

#[test]
fn a_per_agent_token_is_stored_and_the_key_is_pinned() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (token, id) = hub.per_agent_token(json!({"default_tags": ["a"], "default_role": "web"}));
    let run = host
        .enrol_with(&hub, &token, &["--tag", "b", "--output", "json"])
        .run()
        .expect(0);
    assert_eq!(run.json()["result"], "registered");
    assert_eq!(host.key("agent_token").unwrap(), token);
    assert_eq!(host.key("agent_id").unwrap(), id);
    assert_eq!(host.key("tags").unwrap(), r#"["a", "b"]"#);
    assert_eq!(host.key("role").unwrap(), "web");

    // The key is pinned: another host cannot use the same token.
    let thief = TestHost::new();
    thief.enrol(&hub, &token).run().expect(77).expect_stderr(&[
        "403",
        "another signing key is pinned",
        "rotate-signing-key",
    ]);
    assert!(!thief.path("etc/monsys/agent.toml").exists());
}

#[test]
fn an_unknown_per_agent_token_is_not_stored() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, "agt_doesnotexist").run().expect(77);
    assert!(!host.path("etc/monsys/agent.toml").exists());
}

#[test]
fn a_per_agent_token_written_by_hand_is_confirmed() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (token, id) = hub.per_agent_token(json!({}));
    let ca_file = host.install_ca(&hub).unwrap();
    host.write_file(
        "etc/monsys/agent.toml",
        &format!("hub_url = '{}'\nagent_token = '{token}'\n", hub.url()),
    );
    let status = host.agent(&["status", "--output", "json"]).run().expect(78);
    assert_eq!(status.json()["state"], "unconfirmed");
    host.agent(&["enrol", "--ca-file", ca_file.to_str().unwrap()])
        .run()
        .expect(0);
    assert_eq!(host.key("agent_id").unwrap(), id);
    host.agent(&["status"]).run().expect(0);
}
