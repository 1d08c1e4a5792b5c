//! `enrol`: a secret becomes a credential in `agent.toml`.

use serde_json::json;

use crate::common::{MODES, TestHost, TestHub, keys};

#[test]
fn a_host_enrols_and_writes_its_files() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let run = host
        .enrol(&hub, &hub.token())
        .env("MONSYS_TAGS", "shard-3")
        .run()
        .expect(0);
    let agent = hub.agents().remove(0);
    let id = agent["agent_id"].as_str().unwrap();
    for part in [
        "Enrolled web-3",
        id,
        "prod, eu-west, web, shard-3",
        "Next: monsys-agent status",
    ] {
        assert!(run.stdout.contains(part), "{}", run.stdout);
    }

    assert_eq!(host.key("agent_id").unwrap(), id);
    assert_eq!(host.key("hub_url").unwrap(), hub.url());
    assert!(host.key("agent_token").unwrap().starts_with("agt_"));
    assert_eq!(host.key("role").unwrap(), "web");
    assert_eq!(
        host.key("tags").unwrap(),
        r#"["prod", "eu-west", "web", "shard-3"]"#
    );
    for (path, mode) in MODES {
        assert_eq!(host.mode(path), mode, "{path}");
    }
    let key = std::fs::read(host.path("var/lib/monsys/agent-signing.key")).unwrap();
    assert_eq!(key.len(), 32);
    let id_file = std::fs::read_to_string(host.path("var/lib/monsys/agent-id")).unwrap();
    assert_eq!(id_file.trim(), id);

    assert_eq!(agent["facts"]["hostname"], "web-3");
    assert_eq!(agent["tags"], json!(["prod", "eu-west", "web", "shard-3"]));
    let token = &hub.tokens()[0];
    assert_eq!(
        (&token["uses"], &token["max_uses"]),
        (&json!(1), &json!(50))
    );
    let uses = hub.uses(token["id"].as_str().unwrap());
    assert_eq!(uses.len(), 1);
    assert_eq!(uses[0]["agent_id"], id);
}

#[test]
fn the_json_report_has_the_keys_of_the_contract_and_logs_stay_on_standard_error() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let run = host
        .enrol_with(&hub, &hub.token(), &["--output", "json", "-v"])
        .run()
        .expect(0);
    let report = run.json();
    assert_eq!(
        keys(&report),
        [
            "agent_id",
            "changed",
            "changes",
            "config",
            "confirmed",
            "hub_url",
            "left",
            "result",
            "role",
            "scrubbed",
            "tags",
            "unsearched"
        ]
    );
    assert_eq!(report["changed"], true);
    assert_eq!(report["result"], "enrolled");
    assert!(run.stderr.contains("sending a request"));
}

#[test]
fn force_enrols_again_as_the_same_agent() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let token = hub.token();
    host.enrol(&hub, &token).run().expect(0);
    let before = (host.key("agent_id"), host.key("agent_token"));
    let run = host
        .enrol_with(&hub, &token, &["--force", "--output", "json"])
        .run()
        .expect(0);
    assert_eq!(run.json()["result"], "recovered");
    assert_eq!(host.key("agent_id"), before.0);
    assert_ne!(host.key("agent_token"), before.1, "no fresh credential");
    hub.expect_one_slot();
}

#[test]
fn a_dry_run_uses_neither_network_nor_disk() {
    let host = TestHost::new();
    let before = host.files("");
    let run = host
        .agent(&[
            "enrol",
            "--dry-run",
            "--hub-url",
            "https://hub.invalid",
            "--tags",
            "a,b",
            "--output",
            "json",
        ])
        .env("MONSYS_TOKEN", "enrl_dryrunsecret")
        .run()
        .expect(0);
    let report = run.json();
    assert_eq!(report["token"], "enrolment token from MONSYS_TOKEN");
    assert_eq!(report["request"]["path"], "/api/v1/agents/enrol");
    assert_eq!(report["request"]["body"]["hostname"], "web-3");
    assert_eq!(report["request"]["body"]["tags"], json!(["a", "b"]));
    assert_eq!(report["changed"], false);
    assert!(!run.stdout.contains("dryrunsecret"));
    assert_eq!(host.files(""), before);

    let run = host
        .agent(&["enrol", "--dry-run", "--token-command", "touch ran"])
        .run()
        .expect(0);
    assert!(run.stdout.contains("Dry run: nothing was sent"));
    assert!(run.stdout.contains("--token-command, which was not run"));
    assert!(!host.path("ran").exists());
}

#[test]
fn foreign_keys_order_and_comments_are_preserved() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.write_file(
        "etc/monsys/agent.toml",
        "# managed by us\nlog_dir = '/var/log/x' # here\ntags = ['rack-7']\n\n[collectors]\ndisk = true # yes\n",
    );
    host.enrol(&hub, &hub.token()).run().expect(0);
    let text = host.agent_toml();
    assert!(
        text.starts_with(
            "# managed by us\nlog_dir = '/var/log/x' # here\ntags = [\"prod\", \"eu-west\", \"web\", \"rack-7\"]\n"
        ),
        "{text}"
    );
    assert!(
        text.ends_with("\n\n[collectors]\ndisk = true # yes\n"),
        "{text}"
    );
    assert_eq!(host.mode("etc/monsys/agent.toml"), 0o600);
    assert_eq!(
        hub.agents()[0]["tags"],
        json!(["prod", "eu-west", "web", "rack-7"])
    );
}

#[test]
fn another_hub_is_rejected_without_force() {
    let (first, second, host) = (TestHub::new(), TestHub::new(), TestHost::new());
    host.enrol(&first, &first.token()).run().expect(0);
    let before = host.agent_toml();
    host.enrol(&second, &second.token())
        .run()
        .expect(64)
        .expect_stderr(&["another hub", &first.url(), &second.url(), "--force"]);
    // Without a new token, the credential of the first hub must not be sent to the second one.
    let url = second.url();
    host.agent(&["enrol", "--force", "--hub-url", &url])
        .run()
        .expect(64);
    assert_eq!(host.agent_toml(), before);
    host.enrol_with(&second, &second.token(), &["--force"])
        .run()
        .expect(0);
    assert_eq!(host.key("hub_url").unwrap(), second.url());
    second.expect_one_slot();
    first.expect_one_slot();
}

#[test]
fn settings_that_reach_the_hub_are_stored_for_the_service() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    assert_eq!(host.key("ca_file").unwrap(), "/etc/ssl/hub-ca.pem");
    // Only agent.toml has the hub and its CA.
    host.agent(&["enrol", "--tag", "new"]).run().expect(0);
    assert_eq!(
        hub.agents()[0]["tags"],
        json!(["prod", "eu-west", "web", "new"])
    );

    // A CA outside of the root could not be found later.
    let other = TestHost::new();
    let ca_file = hub.ca_file().unwrap();
    let url = hub.url();
    other
        .agent(&[
            "enrol",
            "--hub-url",
            &url,
            "--ca-file",
            ca_file.to_str().unwrap(),
        ])
        .env("MONSYS_TOKEN", &hub.token())
        .run()
        .expect(0)
        .expect_stderr(&["outside of --root"]);
    assert_eq!(other.key("ca_file"), None);
}

#[test]
fn the_american_spelling_is_accepted() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let ca_file = host.install_ca(&hub).unwrap();
    let url = hub.url();
    host.agent(&[
        "enroll",
        "--hub-url",
        &url,
        "--ca-file",
        ca_file.to_str().unwrap(),
    ])
    .env("MONSYS_TOKEN", &hub.token())
    .run()
    .expect(0);
}

#[test]
fn a_dry_run_on_an_enrolled_host_predicts_the_real_run() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol_with(&hub, &hub.token(), &["--tag", "one"])
        .run()
        .expect(0);
    let before = host.files("");
    let preview = |arguments: &[&str]| {
        let arguments = [&["enrol", "--dry-run", "--output", "json"], arguments].concat();
        host.agent(&arguments).run().expect(0).json()
    };
    assert_eq!(preview(&[])["request"]["path"], "/api/v1/agents/register");
    let update = preview(&["--tag", "two"]);
    assert_eq!(update["request"]["path"], "/api/v1/agents/register");
    assert_eq!(update["tags"], json!(["two"]));
    host.agent(&["enrol", "--dry-run", "--hub-url", "https://other.example"])
        .run()
        .expect(64);
    assert_eq!(host.files(""), before);
}
