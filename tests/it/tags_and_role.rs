//! Tags and role: merging, and later changes without spending a use.

use serde_json::json;

use crate::common::{Mint, TestHost, TestHub};

#[test]
fn default_tags_come_first_and_duplicates_are_dropped() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol_with(
        &hub,
        &hub.token(),
        &[
            "--tag",
            "shard-3",
            "--tags",
            "web,zone-a",
            "--tag",
            "shard-3",
        ],
    )
    .run()
    .expect(0);
    assert_eq!(
        host.key("tags").unwrap(),
        r#"["prod", "eu-west", "web", "shard-3", "zone-a"]"#
    );
}

#[test]
fn an_explicit_role_wins_and_a_blank_role_is_unset() {
    let hub = TestHub::new();
    let bare = Mint::new().with("default_role", json!(null));
    for (mint, role, expected) in [
        (Mint::new(), "db", Some("db")),
        (Mint::new(), "", Some("web")),
        (Mint::new(), " \t", Some("web")),
        (Mint::new(), " db\r\n", Some("db")),
        (bare, "", None),
    ] {
        let host = TestHost::new();
        let (token, _) = hub.mint(&mint);
        host.enrol(&hub, &token)
            .env("MONSYS_ROLE", role)
            .run()
            .expect(0);
        assert_eq!(host.key("role").as_deref(), expected);
    }
}

#[test]
fn blanks_in_a_flag_a_variable_and_a_key_are_not_given() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.write_file("etc/monsys/agent.toml", "role = \"  \"\nwait = \" \"\n");
    host.enrol_with(&hub, &hub.token(), &["--role", " ", "--tag", " "])
        .env("MONSYS_ROLE", "\t")
        .env("MONSYS_TAGS", "a\n")
        .env("MONSYS_CA_PIN", " ")
        .env("MONSYS_STATE_DIR", " ")
        .run()
        .expect(0);
    assert_eq!(host.key("role").as_deref(), Some("web"));
    assert_eq!(
        host.key("tags").unwrap(),
        r#"["prod", "eu-west", "web", "a"]"#
    );
    // The role stays as it is.
    host.agent(&["enrol", "--role", "  "]).run().expect(0);
    assert_eq!(host.key("role").as_deref(), Some("web"));
}

#[test]
fn changed_tags_are_registered_without_a_use() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (token, token_id) = hub.mint(&Mint::new().with("max_uses", json!(1)));
    host.enrol_with(&hub, &token, &["--tag", "one"])
        .run()
        .expect(0);
    let credential = host.key("agent_token");
    let run = host
        .agent(&["enrol", "--tag", "two", "--role", "db", "--output", "json"])
        .run()
        .expect(0);
    assert_eq!(run.json()["result"], "updated");
    assert_eq!(run.json()["changed"], true);
    assert_eq!(
        host.key("tags").unwrap(),
        r#"["prod", "eu-west", "web", "two"]"#
    );
    assert_eq!(host.key("role").unwrap(), "db");
    assert_eq!(host.key("agent_token"), credential);
    assert_eq!(hub.agents()[0]["role"], "db");
    hub.expect_one_slot();
    assert_eq!(hub.uses(&token_id).len(), 1);

    let again = host
        .agent(&["enrol", "--tag", "two", "--role", "db", "--output", "json"])
        .run()
        .expect(0);
    assert_eq!(again.json()["changed"], false);
}

#[test]
fn a_tag_that_the_user_writes_into_agent_toml_reaches_the_hub() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol_with(&hub, &hub.token(), &["--tag", "one"])
        .run()
        .expect(0);
    let text = host.agent_toml().replace("\"one\"]", "\"one\", \"mine\"]");
    host.write_file("etc/monsys/agent.toml", &text);
    host.agent(&["enrol"]).run().expect(0);
    assert_eq!(
        hub.agents()[0]["tags"],
        json!(["prod", "eu-west", "web", "one", "mine"])
    );
    let run = host.agent(&["enrol", "--output", "json"]).run().expect(0);
    assert_eq!(run.json()["changed"], false);
}

#[test]
fn without_the_state_only_missing_tags_are_a_change() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol_with(&hub, &hub.token(), &["--tag", "one"])
        .run()
        .expect(0);
    std::fs::remove_file(host.path("var/lib/monsys/state.json")).unwrap();
    let run = host
        .agent(&["enrol", "--tag", "one", "--output", "json"])
        .run()
        .expect(0);
    assert_eq!(run.json()["result"], "already_enrolled");
    assert!(host.path("var/lib/monsys/state.json").exists(), "not fixed");
}

#[test]
fn defaults_of_another_token_replace_those_of_the_first() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol_with(&hub, &hub.token(), &["--tag", "one"])
        .run()
        .expect(0);
    let other = Mint::new()
        .with("default_tags", json!(["staging"]))
        .with("default_role", json!("cache"));
    let (token, _) = hub.mint(&other);
    host.enrol_with(&hub, &token, &["--force"]).run().expect(0);
    assert_eq!(host.key("tags").unwrap(), r#"["staging", "one"]"#);
    assert_eq!(host.key("role").unwrap(), "cache");
    assert_eq!(hub.agents().len(), 1, "one host, one agent");
}

#[test]
fn more_than_64_tags_after_the_merge_are_accepted() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let defaults: Vec<String> = (0..40).map(|i| format!("default-{i}")).collect();
    let (token, _) = hub.mint(&Mint::new().with("default_tags", json!(defaults)));
    let own: Vec<String> = (0..30).map(|i| format!("own-{i}")).collect();
    host.enrol_with(&hub, &token, &["--tags", &own.join(",")])
        .run()
        .expect(0);
    host.agent(&["status"]).run().expect(0);
    let run = host.agent(&["enrol", "--output", "json"]).run().expect(0);
    assert_eq!(run.json()["changed"], false);
    // Tags that the user writes there still count.
    let more: Vec<String> = (0..40).map(|i| format!("\"more-{i}\"")).collect();
    let text = host.agent_toml().replace("\"own-29\"", &more.join(", "));
    host.write_file("etc/monsys/agent.toml", &text);
    host.agent(&["enrol"])
        .run()
        .expect(64)
        .expect_stderr(&["`tags` in"]);
}
