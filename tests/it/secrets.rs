//! The complete workflow at the highest verbosity, searched for secrets.

use serde_json::json;

use crate::common::{Run, TestHost, TestHub};

/// Returns the complete output of a run.
fn shown(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

#[test]
fn no_token_is_anywhere_after_the_complete_workflow() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let token = hub.token();
    let secret = token.strip_prefix("enrl_").unwrap();
    let mut seen = String::new();
    for format in [["--log-format", "text"], ["--log-format", "json"]] {
        let more = [&["-vvv", "--output", "json", "--force"], &format[..]].concat();
        for fault in [
            json!({"route": "enrol", "status": 503, "body": format!("{{\"message\":\"{token}\"}}")}),
            json!({"route": "enrol", "body": format!("{{\"agent_token\":\"{token}\"}}")}),
            json!({"route": "enrol", "status": 422, "body": format!("{{\"message\":\"bad {token}\"}}")}),
        ] {
            hub.fault(fault);
            seen += &shown(&host.enrol_with(&hub, &token, &more).run());
        }
        seen += &shown(&host.enrol_with(&hub, &token, &more).run().expect(0));
    }
    let credential = host.key("agent_token").unwrap();
    for arguments in [
        &["status", "-vvv"][..],
        &["status", "--output", "json"],
        &["enrol", "-vvv"],
        &["enrol", "--dry-run", "-vvv"],
        &["enrol", "--tag", "x", "-vvv"],
        &["facts", "-vvv"],
    ] {
        let run = host.agent(arguments).env("MONSYS_TOKEN", &token).run();
        seen += &shown(&run);
    }
    assert!(seen.contains("TRACE"), "not the highest verbosity");
    for part in [secret, credential.strip_prefix("agt_").unwrap()] {
        assert!(!seen.contains(part), "{seen}");
    }

    let files = host.files("");
    assert!(files.len() > 5);
    for (path, bytes) in &files {
        let text = String::from_utf8_lossy(bytes);
        assert!(!text.contains(secret), "{}", path.display());
        let is_config = path.ends_with("agent.toml");
        assert_eq!(text.contains(&credential), is_config, "{}", path.display());
    }
}

#[test]
fn a_token_argument_is_rejected_and_redacted() {
    let host = TestHost::new();
    for arguments in [
        &["enrol", "--token", "enrl_verysecret"][..],
        &["enrol", "--token=enrl_verysecret"],
        &["enrol", "enrl_verysecret"],
        &["enrl_verysecret"],
        &["enrol", "--log-format", "ms_verysecret"],
        &["enrol", "--token"],
    ] {
        let run = host
            .agent(arguments)
            .run()
            .expect(64)
            .expect_stderr(&["a token on the command line", "--token-file -"]);
        assert!(!shown(&run).contains("verysecret"), "{}", run.stderr);
    }
    for arguments in [
        &["enrol", "--hub-url", "https://enrl_verysecret@hub"][..],
        &["enrol", "--hub-url", "enrl_verysecret"],
        &["enrol", "--role", "a\nenrl_verysecret"],
        &["enrol", "--tag", "enrl_verysecret,"],
        &["enrol", "--tag", "a\nenrl_verysecret"],
        &["enrol", "--tags", "x\tagt_verysecret"],
        &["enrol", "--wait", "0s", "--token-file", "/enrl_verysecret"],
        &["enrol", "--wait", "enrl_verysecret"],
        &["enrol", "--ca-file", "/enrl_verysecret"],
        &["enrol", "--toke", "agt_verysecret"],
    ] {
        for more in [&["--output", "text"], &["--output", "json"]] {
            let arguments = [arguments, more].concat();
            let run = host.agent(&arguments).env("MONSYS_TOKEN", "enrl_x1").run();
            assert_ne!(run.code, 0);
            assert!(!shown(&run).contains("verysecret"), "{}", shown(&run));
        }
    }
}
