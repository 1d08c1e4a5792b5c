//! Text from others reaches a terminal and a log only as visible text.

use std::fs;

use serde_json::{Value, json};

use crate::common::{Run, TestHost, TestHub};

/// A terminal title, colours by C0 and C1, reordered text, zero width, and a line break.
const HOSTILE: &str = "a\u{1b}]0;PWN\u{7}\u{9b}31m\u{202e}\u{2066}\u{200b}\u{200f}\u{61c}\u{2060}\u{feff}\u{7f}\nFORGED";
const ID: &str = "6f1c2a1e-8f0e-4a55-9a3c-0d8f5f3b7f10";

#[track_caller]
fn clean(run: Run) -> Run {
    for text in [&run.stdout, &run.stderr] {
        let bad = |c: char| agent_core::escape::is_hidden(c) && c != '\n' && c != '\t';
        assert!(!text.contains(bad), "{text:?}");
        for line in text.lines() {
            assert!(!line.starts_with("FORGED"), "{text}");
        }
    }
    run
}

/// Edits a JSON file of the host.
fn edit(host: &TestHost, path: &str, change: impl FnOnce(&mut Value)) {
    let text = fs::read_to_string(host.path(path)).unwrap();
    let mut value = serde_json::from_str(&text).unwrap();
    change(&mut value);
    fs::write(host.path(path), value.to_string()).unwrap();
}

#[test]
fn hidden_characters_of_a_hub_are_escaped() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    for format in ["text", "json"] {
        for status in [400, 403, 503] {
            let body = json!({"message": HOSTILE, "error": HOSTILE}).to_string();
            hub.fault(json!({"route": "enrol", "status": status, "body": body}));
            let more = [
                "--wait",
                "0s",
                "--log-format",
                format,
                "--output",
                format,
                "-vv",
            ];
            let run = clean(host.enrol_with(&hub, &hub.token(), &more).run());
            assert_ne!(run.code, 0);
            assert!(run.stderr.contains("PWN"), "{}", run.stderr);
        }
        hub.fault(
            json!({"route": "enrol", "status": 200, "body": "x", "content_type": "text/\u{9b}31m"}),
        );
        let more = ["--output", format, "--log-format", format];
        clean(host.enrol_with(&hub, &hub.token(), &more).run());
    }
}

#[test]
fn hidden_characters_in_files_are_escaped() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    edit(&host, "var/lib/monsys/state.json", |state| {
        state["hostname"] = json!(HOSTILE);
        state["enrolled_at"] = json!(HOSTILE);
    });
    let id = host.key("agent_id").unwrap();
    let failure = json!({
        "since": HOSTILE, "at": HOSTILE, "tries": 1, "id": HOSTILE,
        "what": HOSTILE, "cause": HOSTILE, "hint": HOSTILE,
    });
    let health = json!({
        "agent_id": id, "interval_secs": 30, "last_try": HOSTILE, "next_try": HOSTILE,
        "last_heartbeat": HOSTILE, "failure": failure,
    });
    host.write_file("run/monsys/heartbeat.json", &health.to_string());
    let run = clean(host.agent(&["status"]).run());
    assert!(run.stdout.contains(r"a\u{1b}]0;PWN\u{7}"), "{}", run.stdout);
    assert!(run.stdout.contains("last failure"), "{}", run.stdout);

    let run = clean(host.agent(&["status", "--output", "json"]).run());
    assert_eq!(
        run.json()["last_failure"]["cause"],
        HOSTILE,
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains(r"\u202e"), "{}", run.stdout);

    // The state of another machine.
    host.write_file("etc/machine-id", "fedcba9876543210fedcba9876543210\n");
    let run = clean(host.agent(&["status"]).run());
    assert!(run.stdout.contains("cloned from"), "{}", run.stdout);

    let host = TestHost::new();
    let hostile = serde_json::to_string(HOSTILE).unwrap();
    for line in [
        format!("hub_url = {hostile}"),
        "hub_url = \"https://h/\\u202e\\u200b\"\nca_file = \"/\\u202e\"".to_owned(),
        format!("wait = {hostile}"),
        format!("splay = {hostile}"),
        format!("scrub_cloud_init = {hostile}"),
        format!("tags = [{hostile}]"),
        format!("role = {hostile}"),
        format!("token_command = {hostile}"),
        format!("agent_id = {hostile}"),
        format!("{hostile} = 1 2"),
    ] {
        host.write_file("etc/monsys/agent.toml", &format!("{line}\n"));
        for arguments in [&["status"][..], &["enrol", "--wait", "0s"], &["doctor"]] {
            for format in ["text", "json"] {
                let arguments = [arguments, &["--output", format]].concat();
                clean(host.agent(&arguments).run());
            }
        }
    }
}

#[test]
fn hidden_characters_of_the_host_and_its_commands_are_escaped() {
    let host = TestHost::new();
    host.write_file(
        "etc/os-release",
        "PRETTY_NAME=\"a\u{1b}[31m\u{202e}\u{200b}b\"\n",
    );
    host.write_file("host-hostname", "web\u{202e}\u{200b}-3\n");
    // Hidden characters are not sent to the hub either: they are removed from the system's name, and the file
    // with the host name is skipped.
    clean(host.agent(&["facts"]).run().expect(0));
    clean(host.agent(&["enrol", "--dry-run"]).run());
    let run = clean(host.agent(&["facts", "--output", "json"]).run().expect(0));
    let facts = run.json().to_string();
    assert!(
        !facts.contains(['\u{202e}', '\u{200b}', '\u{1b}']),
        "{facts}"
    );

    let command = "printf 'a\\033[31m\\302\\2331m\\342\\200\\256z' >&2; exit 1";
    let run = clean(
        host.agent(&["enrol", "--wait", "0s", "--token-command", command])
            .run()
            .expect(74),
    );
    run.expect_stderr(&[r"it said:", r"\u{1b}", r"\u{202e}"]);

    let name = "bin\u{202e}\n";
    clean(
        host.agent(&["enrol", "--toke\u{1b}[31m\u{202e}"])
            .run()
            .expect(64),
    );
    clean(host.agent(&["man", &format!("/nowhere/{name}")]).run());
}

#[test]
fn ids_and_tags_with_hidden_characters_are_a_protocol_error() {
    let answer = |id: &str, tags: Value, role: Value| {
        json!({"route": "enrol", "body": json!({
            "agent_id": id, "agent_token": "agt_abcdefgh", "default_tags": tags, "default_role": role,
        }).to_string()})
    };
    for (id, tags, role) in [
        (
            "00000000-0000-0000-0000-000000000000",
            json!([]),
            json!(null),
        ),
        (
            "urn:uuid:6f1c2a1e-8f0e-4a55-9a3c-0d8f5f3b7f10",
            json!([]),
            json!(null),
        ),
        (
            "{6f1c2a1e-8f0e-4a55-9a3c-0d8f5f3b7f10}",
            json!([]),
            json!(null),
        ),
        ("6f1c2a1e8f0e4a559a3c0d8f5f3b7f10", json!([]), json!(null)),
    ] {
        let (hub, host) = (TestHub::new(), TestHost::new());
        hub.fault(answer(id, tags, role));
        clean(host.enrol(&hub, &hub.token()).run().expect(76));
        assert!(!host.path("etc/monsys/agent.toml").exists());
    }
    // What does not matter is dropped: it costs no credential.
    for (tags, role) in [
        (json!(["web\u{9b}31m"]), json!(null)),
        (json!([]), json!("web\u{85}")),
    ] {
        let (hub, host) = (TestHub::new(), TestHost::new());
        hub.fault(answer(ID, tags, role));
        clean(host.enrol(&hub, &hub.token()).run().expect(0));
        assert_eq!(host.key("role"), None);
        assert!(!host.agent_toml().contains("web"));
    }
    let host = TestHost::new();
    let run = host.agent(&["enrol", "--tag", "a\u{85}b"]).run().expect(64);
    clean(run.expect_stderr(&["a tag is not valid", "--tag"]));
    // Other invisible characters belong to scripts and emoji: they are accepted, and escaped in output.
    for tag in ["web\u{202e}", "\u{200b}", "a\u{200d}b"] {
        let (hub, host) = (TestHub::new(), TestHost::new());
        hub.fault(answer(ID, json!([tag]), json!(null)));
        clean(host.enrol(&hub, &hub.token()).run().expect(0));
        assert!(host.agent_toml().contains(tag));
        clean(host.agent(&["status"]).run().expect(0));
    }
}
