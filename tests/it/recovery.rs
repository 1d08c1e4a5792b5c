//! Recovery of the next run from interruptions, lost responses and stray files.

use std::fs;

use serde_json::json;

use crate::common::{Mint, TestHost, TestHub, until};

const KEY: &str = "var/lib/monsys/agent-signing.key";
const STATE: &str = "var/lib/monsys/state.json";
const OTHER_MACHINE: &str = "fedcba9876543210fedcba9876543210\n";
const THIRD_MACHINE: &str = "aaaaaaaaaaaaaaaa5555555555555555\n";

fn key(host: &TestHost) -> Vec<u8> {
    fs::read(host.path(KEY)).unwrap()
}

#[test]
fn a_plain_run_completes_a_forced_enrolment_whose_response_was_lost() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let token = hub.token();
    host.enrol(&hub, &token).run().expect(0);
    hub.fault(json!({"route": "enrol", "reset": "after"}));
    host.enrol_with(&hub, &token, &["--force", "--wait", "0"])
        .run()
        .expect(69);
    let status = host.agent(&["status", "--output", "json"]).run().expect(75);
    assert_eq!(status.json()["renewing"], true);
    let same_token = "run the enrolment again with the same token";
    let text = host.agent(&["status"]).run().expect(75).stdout;
    assert!(text.contains(same_token), "{text}");
    let doctor = host.agent(&["doctor"]).run().expect(64).stdout;
    assert!(doctor.contains(same_token), "{doctor}");
    host.agent(&["install", "--no-start"])
        .run()
        .expect(64)
        .expect_stderr(&["interrupted"]);

    // The credential on the disk is revoked, so this must not report success.
    let run = host
        .agent(&["enrol"])
        .run()
        .expect(77)
        .expect_stderr(&[same_token]);
    assert!(!run.stderr.contains("rotate-token"), "{}", run.stderr);
    let service = host.service();
    until("the service is refused", || {
        host.agent(&["status"])
            .run()
            .stdout
            .contains("last failure")
    });
    let text = host.agent(&["status"]).run().expect(75).stdout;
    service.stop();
    assert!(!text.contains("rotate-token"), "{text}");
    let run = host
        .enrol_with(&hub, &token, &["--output", "json"])
        .run()
        .expect(0);
    assert_eq!(run.json()["result"], "recovered");
    host.agent(&["enrol", "--tag", "signed"]).run().expect(0);
    hub.expect_one_slot();
    let run = host.agent(&["enrol", "--output", "json"]).run().expect(0);
    assert_eq!(run.json()["changed"], false);
}

#[test]
fn a_rejected_forced_enrolment_leaves_the_host_enrolled() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    host.enrol_with(&hub, "enrl_wrong", &["--force"])
        .run()
        .expect(77);
    let run = host.agent(&["enrol", "--output", "json"]).run().expect(0);
    assert_eq!(run.json()["result"], "already_enrolled");
}

#[test]
fn a_lost_key_is_reported_and_replaced_only_with_force() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    let id = host.key("agent_id").unwrap();
    fs::remove_file(host.path(KEY)).unwrap();
    for arguments in [&["enrol"][..], &["enrol", "--tag", "x"]] {
        host.agent(arguments).run().expect(78).expect_stderr(&[
            "signing key is gone",
            "rotate-signing-key",
            "--force",
        ]);
    }
    // The hub still has the old key pinned, and a rejection must not leave a host that looks healthy.
    host.agent(&["enrol", "--force"]).run().expect(77);
    assert!(!host.path(KEY).exists());
    host.agent(&["status"]).run().expect(78);

    hub.post(&format!("agents/{id}/rotate-signing-key"), json!({}));
    host.agent(&["enrol", "--force"]).run().expect(0);
    host.agent(&["status"]).run().expect(0);
    host.agent(&["enrol", "--tag", "signed"]).run().expect(0);
    assert_eq!(host.key("agent_id").unwrap(), id);
    hub.expect_one_slot();
}

#[test]
fn a_clones_key_that_was_not_confirmed_never_replaces_the_real_one() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    let before = key(&host);
    let machine = fs::read_to_string(host.path("etc/machine-id")).unwrap();
    host.write_file("etc/machine-id", OTHER_MACHINE);
    host.enrol(&hub, "enrl_wrong").run().expect(77);
    host.write_file("etc/machine-id", &machine);
    for tag in ["one", "two"] {
        host.agent(&["enrol", "--tag", tag]).run().expect(0);
        assert_eq!(key(&host), before);
    }
    hub.expect_one_slot();
}

#[test]
fn copies_of_a_clone_do_not_share_its_key() {
    let (hub, original) = (TestHub::new(), TestHost::new());
    let token = hub.token();
    original.enrol(&hub, &token).run().expect(0);
    let clone = original.copy();
    clone.write_file("etc/machine-id", OTHER_MACHINE);
    clone.enrol(&hub, "enrl_wrong").run().expect(77);
    let copy = clone.copy();
    copy.write_file("etc/machine-id", THIRD_MACHINE);
    for host in [&clone, &copy] {
        host.enrol(&hub, &token).run().expect(0);
    }
    for host in [&original, &clone, &copy] {
        host.agent(&["enrol", "--tag", "signed"]).run().expect(0);
    }
    assert_eq!(hub.agents().len(), 3);
}

#[test]
fn an_image_with_only_its_state_left_spends_one_use() {
    let (hub, image) = (TestHub::new(), TestHost::new());
    image.enrol(&hub, &hub.token()).run().expect(0);
    for path in ["etc/monsys/agent.toml", KEY, "var/lib/monsys/agent-id"] {
        fs::remove_file(image.path(path)).unwrap();
    }
    image.write_file("etc/machine-id", OTHER_MACHINE);
    let (token, id) = hub.mint(&Mint::new());
    hub.fault(json!({"route": "enrol", "reset": "after"}));
    image
        .enrol_with(&hub, &token, &["--wait", "0"])
        .run()
        .expect(69);
    image.enrol(&hub, &token).run().expect(0);
    assert_eq!(hub.uses(&id).len(), 1);
    assert_eq!(hub.agents().len(), 2);
}

#[test]
fn without_its_state_an_interrupted_clone_retries_with_the_same_key() {
    let (hub, original) = (TestHub::new(), TestHost::new());
    original.enrol(&hub, &hub.token()).run().expect(0);
    let clone = original.copy();
    clone.write_file("etc/machine-id", OTHER_MACHINE);
    let (token, id) = hub.mint(&Mint::new().with("max_uses", json!(1)));
    hub.fault(json!({"route": "enrol", "reset": "after"}));
    clone
        .enrol_with(&hub, &token, &["--wait", "0"])
        .run()
        .expect(69);
    fs::remove_file(clone.path(STATE)).unwrap();
    clone.enrol(&hub, &token).run().expect(0);
    assert_eq!(hub.uses(&id).len(), 1);
    original
        .agent(&["enrol", "--tag", "signed"])
        .run()
        .expect(0);
}

#[test]
fn a_removed_credential_is_obtained_again_without_the_old_defaults() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol_with(&hub, &hub.token(), &["--tag", "mine"])
        .run()
        .expect(0);
    let text = host.agent_toml();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("agent_"))
        .collect();
    let text = lines.join("\n");
    host.write_file("etc/monsys/agent.toml", &text);
    let other = Mint::new()
        .with("default_tags", json!(["staging"]))
        .with("default_role", json!("cache"));
    host.enrol(&hub, &hub.mint(&other).0).run().expect(0);
    assert_eq!(host.key("tags").unwrap(), r#"["staging", "mine"]"#);
    assert_eq!(host.key("role").unwrap(), "cache");
    assert_eq!(hub.agents().len(), 1);
}

#[test]
fn an_edit_during_the_request_is_preserved() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.write_file("etc/monsys/agent.toml", "before = 1\n");
    // The token command runs after agent.toml was read first.
    host.write_file("run/secret", &hub.token());
    host.enrol_with(
        &hub,
        "",
        &[
            "--token-command",
            "echo 'during = 2' >>etc/monsys/agent.toml; cat run/secret",
        ],
    )
    .env("PATH", "/usr/bin:/bin")
    .run()
    .expect(0);
    assert!(host.agent_toml().starts_with("before = 1\nduring = 2\n"));
}

#[test]
fn a_change_of_tags_keeps_the_date_of_the_enrolment() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    let text = fs::read_to_string(host.path(STATE)).unwrap();
    let mut state: serde_json::Value = serde_json::from_str(&text).unwrap();
    state["enrolled_at"] = json!("2020-01-01T00:00:00Z");
    host.write_file(STATE, &state.to_string());
    host.agent(&["enrol", "--tag", "x"]).run().expect(0);
    let status = host.agent(&["status", "--output", "json"]).run().expect(0);
    assert_eq!(status.json()["enrolled_at"], "2020-01-01T00:00:00Z");
}

#[test]
fn a_later_rejection_does_not_hide_that_the_credential_is_revoked() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let token = hub.token();
    host.enrol(&hub, &token).run().expect(0);
    hub.fault(json!({"route": "enrol", "reset": "after"}));
    host.enrol_with(&hub, &token, &["--force", "--wait", "0"])
        .run()
        .expect(69);
    host.enrol(&hub, "enrl_wrong").run().expect(77);
    host.agent(&["enrol"]).run().expect(77);
    host.enrol(&hub, &token).run().expect(0);
    hub.expect_one_slot();
}

#[test]
fn a_plain_run_stores_a_per_agent_token_whose_response_was_lost() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    let id = host.key("agent_id").unwrap();
    let rotated = hub.post(&format!("agents/{id}/rotate-token"), json!({}));
    let token = rotated["token"].as_str().unwrap();
    hub.fault(json!({"route": "register", "reset": "after"}));
    host.enrol_with(&hub, token, &["--force", "--wait", "0"])
        .run()
        .expect(69);
    host.enrol(&hub, token).run().expect(0);
    assert_eq!(host.key("agent_token").unwrap(), token);
    host.agent(&["enrol", "--tag", "signed"]).run().expect(0);
}

#[test]
fn a_failure_before_the_request_leaves_the_credential_valid() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let token = hub.token();
    host.enrol(&hub, &token).run().expect(0);
    host.agent(&["enrol", "--force", "--ca-file", "/nope"])
        .env("MONSYS_TOKEN", &token)
        .run()
        .expect(74);
    let status = host.agent(&["status", "--output", "json"]).run().expect(0);
    assert_eq!(status.json()["renewing"], false);
}

#[test]
fn a_failed_move_to_another_hub_leaves_the_host_enrolled() {
    let (first, second, host) = (TestHub::new(), TestHub::new(), TestHost::new());
    host.enrol(&first, &first.token()).run().expect(0);
    let token = second.token();
    second.fault(json!({"route": "enrol", "reset": "after"}));
    host.enrol_with(&second, &token, &["--force", "--wait", "0"])
        .run()
        .expect(69);
    let stored = ["enrol", "--output", "json", "--offline"];
    let run = host.agent(&stored).run().expect(0);
    assert_eq!(run.json()["result"], "already_enrolled");
    assert_eq!(run.json()["hub_url"], first.url());
    host.enrol_with(&second, &token, &["--force"])
        .run()
        .expect(0);
    second.expect_one_slot();
}

/// The id of a machine may become known only later: after its first boot, or only to root.
#[test]
fn a_clone_that_learns_its_instance_id_between_two_runs_reuses_its_key() {
    let (hub, original) = (TestHub::new(), TestHost::new());
    original.enrol(&hub, &hub.token()).run().expect(0);
    let (token, id) = hub.mint(&Mint::new().with("max_uses", json!(1)));
    let clone = original.copy();
    clone.write_file("etc/machine-id", OTHER_MACHINE);
    hub.fault(json!({"route": "enrol", "reset": "after"}));
    clone
        .enrol_with(&hub, &token, &["--wait", "0"])
        .run()
        .expect(69);
    clone.write_file("run/cloud-init/.instance-id", "i-0123456789abcdef0\n");
    clone.enrol(&hub, &token).run().expect(0);
    assert_eq!(hub.uses(&id).len(), 1);
    clone.agent(&["enrol", "--tag", "signed"]).run().expect(0);
}

#[test]
fn a_host_mistaken_for_a_clone_keeps_its_identity() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    let before = (host.agent_toml(), key(&host));
    let machine = fs::read_to_string(host.path("etc/machine-id")).unwrap();
    host.write_file("etc/machine-id", OTHER_MACHINE);
    hub.fault(json!({"route": "enrol", "reset": "after"}));
    host.enrol_with(&hub, &hub.token(), &["--wait", "0"])
        .run()
        .expect(69);
    host.write_file("etc/machine-id", &machine);
    host.agent(&["status"]).run().expect(0);
    let run = host.agent(&["enrol", "--output", "json"]).run().expect(0);
    assert_eq!(run.json()["result"], "already_enrolled");
    assert_eq!((host.agent_toml(), key(&host)), before);
    let names = host.names("var/lib/monsys");
    assert!(
        !names.iter().any(|name| name.contains(".next")),
        "{names:?}"
    );
    host.agent(&["enrol", "--tag", "signed"]).run().expect(0);
}

#[test]
fn a_lost_key_is_not_replaced_with_a_token_of_agent_toml() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.write_file("run/secret", &hub.token());
    host.write_file("etc/monsys/agent.toml", "token_file = '/run/secret'\n");
    host.enrol(&hub, "").run().expect(0);
    let id = host.key("agent_id").unwrap();
    fs::remove_file(host.path(KEY)).unwrap();
    hub.post(&format!("agents/{id}/rotate-signing-key"), json!({}));
    host.agent(&["enrol", "--force"]).run().expect(0);
    assert_eq!(host.key("agent_id").unwrap(), id);
    hub.expect_one_slot();
}

/// A power loss on some file systems: a file that was just written has its name and no content.
#[test]
fn files_that_a_power_loss_emptied_cost_no_second_use() {
    const EMPTY: &str = "";
    let (hub, host) = (TestHub::new(), TestHost::new());
    let token = hub.token();
    host.enrol(&hub, &token).run().expect(0);
    let id = host.key("agent_id").unwrap();
    for path in ["var/lib/monsys/agent-id", STATE] {
        host.write_file(path, EMPTY);
        host.agent(&["status"]).run().expect(0);
        host.agent(&["enrol"]).run().expect(0);
        assert!(!fs::read(host.path(path)).unwrap().is_empty(), "{path}");
    }
    // The complete file of an interrupted replacement holds a credential: the next run removes it.
    let left = "etc/monsys/.monsys-x1.tmp";
    host.write_file(left, &host.agent_toml());
    host.write_file("etc/monsys/agent.toml", EMPTY);
    host.agent(&["status"]).run().expect(78);
    host.agent(&["enrol"]).run().expect(64);
    host.enrol(&hub, &token).run().expect(0);
    assert_eq!(host.key("agent_id").unwrap(), id);
    assert!(!host.path(left).exists());
    // The key is the identity, so an empty one is left for a restoration.
    host.write_file(KEY, EMPTY);
    host.enrol(&hub, &token)
        .run()
        .expect(78)
        .expect_stderr(&["the file has 0 bytes", "restore the file"]);
    assert!(key(&host).is_empty());
    hub.expect_one_slot();
}
