//! Help, version, and usage errors.

use crate::common::TestHost;

#[test]
fn help_and_version_are_on_standard_output() {
    let host = TestHost::new();
    let help = host.agent(&["--help"]).run().expect(0);
    for part in [
        "enrol",
        "status",
        "facts",
        "completions",
        "man",
        "First steps",
        "--root",
    ] {
        assert!(help.stdout.contains(part), "{}", help.stdout);
    }
    let help = host.agent(&["enrol", "--help"]).run().expect(0);
    for part in ["--token-file", "--dry-run", "--force", "--wait"] {
        assert!(help.stdout.contains(part), "{}", help.stdout);
    }
    assert!(!help.stdout.contains("--token <"), "{}", help.stdout);
    let version = host.agent(&["--version"]).run().expect(0);
    assert_eq!(
        version.stdout,
        format!("monsys-agent {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_usage_error_exits_with_64() {
    let host = TestHost::new();
    for arguments in [
        &["enrol", "--no-such-flag"][..],
        &["nonsense"],
        &["enrol", "--output", "xml"],
        &["enrol", "--hub-url"],
    ] {
        host.agent(arguments)
            .run()
            .expect(64)
            .expect_stderr(&["error"]);
    }
}

#[test]
fn a_usage_error_is_reported_in_json() {
    let run = TestHost::new()
        .agent(&["enrol", "--output", "json", "--no-such-flag"])
        .run()
        .expect(64);
    let error = &run.json()["error"];
    assert_eq!(error["id"], "bad-arguments");
    assert!(error["cause"].as_str().unwrap().contains("--no-such-flag"));
}

#[test]
fn the_log_level_follows_the_flags() {
    let host = TestHost::new();
    let run = |more: &[&str]| {
        let arguments = [
            &["enrol", "--wait", "0s", "--hub-url", "https://127.0.0.1:1"],
            more,
        ]
        .concat();
        host.agent(&arguments)
            .env("MONSYS_TOKEN", "enrl_x1")
            .run()
            .expect(69)
            .stderr
    };
    assert!(run(&[]).contains(" INFO "), "{}", run(&[]));
    assert!(!run(&[]).contains("DEBUG"));
    assert!(run(&["-v"]).contains("DEBUG"));
    assert!(run(&["-qq"]).starts_with("error: "));
    let json = run(&["--log-format", "json"]);
    let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(first["level"], "INFO");
}

#[test]
fn a_closed_standard_output_is_a_failure() {
    use std::process::{Command, Stdio};
    let status = Command::new("/bin/sh")
        .args(["-c", "exec \"$0\" facts >/dev/full"])
        .arg(crate::common::program())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(74));
}

/// The default hub would get the token, and the operator would read nothing of the variable.
#[test]
fn a_misspelled_variable_is_named_without_its_value() {
    let host = TestHost::new();
    let run = host
        .agent(&["enrol", "--dry-run"])
        .env("MONSYS_HUBURL", "https://hub.example.com")
        .env("MONSYS_TOKN", "enrl_secret")
        .env("MONSYS_TOKEN_COMMAND", "cat /secret")
        .env("MONSYS_VERSION", "1")
        .run()
        .expect(0)
        .expect_stderr(&[
            "MONSYS_HUBURL is not a variable of the agent",
            "MONSYS_HUB_URL is one",
            "MONSYS_TOKEN is one",
            "MONSYS_TOKEN_COMMAND is not a variable of the agent, and is ignored; --token-command is the flag",
        ]);
    assert!(!run.stderr.contains("enrl_secret"), "{}", run.stderr);
    assert!(!run.stderr.contains("/secret"), "{}", run.stderr);
    assert!(!run.stderr.contains("MONSYS_VERSION"), "{}", run.stderr);
    let run = host.agent(&["man"]).env("MONSYS_HUBURL", "x").run();
    assert_eq!(run.expect(0).stderr, "");
}
