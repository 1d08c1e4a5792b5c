//! `doctor`: checks everything that an enrolment needs, without spending a use.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};

use serde_json::Value;

use crate::common::{Prepared, Run, TestHost, TestHub};

/// Returns `doctor` with the settings of `enrol`.
fn doctor(host: &TestHost, hub: &TestHub, token: &str, more: &[&str]) -> Prepared {
    let ca_file = host.install_ca(hub).unwrap();
    let url = hub.url();
    let arguments = ["doctor", "--output", "json", "--hub-url", &url, "--ca-file"];
    let arguments = [&arguments[..], &[ca_file.to_str().unwrap()], more].concat();
    host.agent(&arguments).env("MONSYS_TOKEN", token)
}

#[track_caller]
fn finding(run: &Run, name: &str) -> (String, String, String) {
    let checks = run.json()["checks"].as_array().unwrap().clone();
    let check = checks
        .iter()
        .find(|check| check["name"] == name)
        .unwrap_or_else(|| panic!("no check {name}: {}", run.stdout));
    let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
    (text("finding"), text("says"), text("hint"))
}

#[track_caller]
fn expect_bad(run: &Run, name: &str, message: &str) {
    let (word, text_of_finding, hint) = finding(run, name);
    assert_eq!(word, "bad", "{text_of_finding}");
    assert!(text_of_finding.contains(message), "{text_of_finding}");
    assert!(!hint.is_empty(), "{name} has no hint");
    assert_eq!(run.json()["ok"], false);
}

/// Starts a server on loopback that sends the next of these responses to each request.
fn canned(answers: &'static [&'static str]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for answer in answers {
            // A connection without a request is a check of its own.
            loop {
                let (mut stream, _) = listener.accept().unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                if !lines
                    .by_ref()
                    .map_while(Result::ok)
                    .any(|line| line.is_empty())
                {
                    continue;
                }
                // Otherwise the next request may be sent on a closing connection.
                let answer = answer.replacen("\r\n\r\n", "\r\nconnection: close\r\n\r\n", 1);
                stream.write_all(answer.as_bytes()).unwrap();
                break;
            }
        }
    });
    address
}

#[test]
fn a_healthy_host_passes_and_nothing_is_changed() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.install_ca(&hub);
    let before = host.files("");
    let run = doctor(&host, &hub, &hub.token(), &[]).run().expect(0);
    for name in [
        "settings",
        "token",
        "identity",
        "config directory",
        "state directory",
        "proxy",
        "name",
        "route",
        "connection",
        "TLS",
        "hub",
        "clock",
        "service manager",
        "cloud-init",
    ] {
        let (word, message, _) = finding(&run, name);
        assert_eq!(word, "good", "{name}: {message}");
    }
    assert_eq!(run.json()["ok"], true);
    assert!(finding(&run, "hub").1.contains("version"));
    assert_eq!(host.files(""), before);
    assert_eq!((hub.agents().len(), hub.spent()), (0, 0));

    host.enrol(&hub, &hub.token()).run().expect(0);
    let text = host.agent(&["doctor"]).run().expect(0).stdout;
    assert!(text.contains("All checks passed"), "{text}");
    assert!(text.contains("an enrolled host needs none"), "{text}");
}

#[test]
fn a_fault_on_the_host_is_reported_with_its_hint() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let run = doctor(&host, &hub, "", &[]).run().expect(64);
    expect_bad(&run, "token", "no token was given");
    let run = doctor(&host, &hub, "ENRL_abc", &[]).run().expect(64);
    expect_bad(&run, "token", "capitals");

    host.write_file("var/lib/monsys", "");
    let run = doctor(&host, &hub, "enrl_x1", &[]).run().expect(73);
    expect_bad(&run, "state directory", "cannot be written");

    let host = TestHost::new();
    host.write_file("etc/monsys/agent.toml", "nonsense\n");
    let run = doctor(&host, &hub, "enrl_x1", &[]).run().expect(78);
    expect_bad(&run, "settings", "line 1");

    let host = TestHost::new();
    host.enrol(&hub, &hub.token()).run().expect(0);
    std::fs::remove_file(host.path("var/lib/monsys/agent-signing.key")).unwrap();
    let run = doctor(&host, &hub, "", &[]).run().expect(78);
    expect_bad(&run, "plan", "key is gone");
}

#[test]
fn doctor_predicts_what_enrol_would_do() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.write_file("run/secret", &hub.token());
    host.write_file("etc/monsys/agent.toml", "token_file = '/run/secret'\n");
    let run = doctor(&host, &hub, "", &[]).run().expect(0);
    assert!(finding(&run, "plan").1.contains("/api/v1/agents/enrol"));
    host.enrol(&hub, "").run().expect(0);
    // The token is removed, and an enrolled host needs none.
    std::fs::remove_file(host.path("run/secret")).unwrap();
    let run = doctor(&host, &hub, "", &[]).run().expect(0);
    assert_eq!(finding(&run, "token").0, "good");
    host.agent(&["enrol", "--dry-run"]).run().expect(0);
    let other = TestHub::new();
    let run = doctor(&host, &other, "", &[]).run().expect(64);
    expect_bad(&run, "plan", "another hub");

    let host = TestHost::new();
    let (token, _) = hub.per_agent_token(serde_json::json!({}));
    host.write_file(
        "etc/monsys/agent.toml",
        &format!("agent_token = '{token}'\n"),
    );
    let run = doctor(&host, &hub, "", &[]).run().expect(0);
    assert!(finding(&run, "plan").1.contains("/api/v1/agents/register"));
}

#[test]
fn a_fault_on_the_network_is_reported_once() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let url = hub.url();
    let doctor_with = |arguments: &[&str]| {
        let arguments = [&["doctor", "--output", "json"], arguments].concat();
        host.agent(&arguments).env("MONSYS_TOKEN", "enrl_x1").run()
    };
    let run = doctor_with(&["--hub-url", &url]).expect(69);
    expect_bad(&run, "TLS", "not trusted");
    assert_eq!(finding(&run, "hub").0, "skipped");

    let run = doctor_with(&["--hub-url", "https://127.0.0.1:1"]).expect(69);
    expect_bad(&run, "connection", "refused");
    assert_eq!(finding(&run, "TLS").0, "skipped");

    let run = doctor_with(&["--hub-url", "https://hub.invalid"]).expect(69);
    expect_bad(&run, "name", "hub.invalid");
    assert_eq!(finding(&run, "connection").0, "skipped");
}

#[test]
fn a_clock_difference_is_reported_with_both_times() {
    let address = canned(&[
        "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 0\r\n\r\n",
    ]);
    let url = format!("http://{address}");
    let run = TestHost::new()
        .agent(&["doctor", "--output", "json", "--hub-url", &url])
        .env("MONSYS_TOKEN", "enrl_x1")
        .run()
        .expect(0);
    let (word, message, hint) = finding(&run, "clock");
    assert_eq!(word, "warning");
    assert!(
        message.contains("ahead of") && message.contains("1994-11-06T08:49:37Z"),
        "{message}"
    );
    assert!(hint.contains("timedatectl"), "{hint}");
}

#[test]
fn a_token_in_cloud_init_files_is_reported() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let token = hub.token();
    let script = format!("#!/bin/sh\nexport MONSYS_TOKEN={token}\n");
    host.write_file("var/lib/cloud/instances/i-1/scripts/runcmd", &script);
    host.write_file("var/log/cloud-init-output.log", &token);
    host.write_file("var/lib/cloud/instances/i-1/user-data.txt", "harmless\n");
    // Longer than one read, with the token across the boundary.
    let long = format!("{}{token}\n", "x".repeat(64 * 1024 - 10));
    host.write_file("var/log/cloud-init.log", &long.repeat(30));
    let run = doctor(&host, &hub, &token, &[]).run().expect(0);
    let (word, message, hint) = finding(&run, "cloud-init");
    assert!(message.contains("cloud-init.log"), "{message}");
    assert_eq!(word, "warning");
    assert!(message.contains("scripts/runcmd") && message.contains("cloud-init-output.log"));
    assert!(!message.contains("user-data.txt") && hint.contains("--token-command"));
    assert!(!run.stdout.contains(&token), "{}", run.stdout);
}

#[test]
fn a_token_in_the_metadata_service_is_reported() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let doctor_with = |address: SocketAddr| {
        let run = doctor(&host, &hub, "enrl_x1", &[])
            .env("AWS_EC2_METADATA_DISABLED", "false")
            .env(
                "AWS_EC2_METADATA_SERVICE_ENDPOINT",
                &format!("http://{address}"),
            )
            .run()
            .expect(0);
        finding(&run, "metadata service")
    };
    let (word, message, hint) = doctor_with(canned(&[
        "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nsession",
        "HTTP/1.1 200 OK\r\ncontent-length: 35\r\n\r\nexport MONSYS_TOKEN=enrl_abcdefghijk",
    ]));
    assert_eq!(word, "warning", "{message}");
    assert!(hint.contains("--token-command"), "{hint}");
    let (word, ..) = doctor_with(canned(&[
        "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nsession",
        "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n#cloud-config",
    ]));
    assert_eq!(word, "good");
    let run = doctor(&host, &hub, "enrl_x1", &[]).run().expect(0);
    // The other clouds, each by the variable of its own tools.
    let elsewhere = |variable: &str, address: SocketAddr| {
        let run = doctor(&host, &hub, "enrl_x1", &[])
            .env("AWS_EC2_METADATA_DISABLED", "false")
            .env(variable, &address.to_string())
            .run()
            .expect(0);
        finding(&run, "metadata service").0
    };
    let google = canned(&[
        "HTTP/1.1 200 OK\r\ncontent-length: 35\r\n\r\nexport MONSYS_TOKEN=enrl_abcdefghijk",
    ]);
    assert_eq!(elsewhere("GCE_METADATA_HOST", google), "warning");
    // enrl_abcdefghijk, encoded.
    let azure = canned(&["HTTP/1.1 200 OK\r\ncontent-length: 24\r\n\r\nZW5ybF9hYmNkZWZnaGlqaw=="]);
    let variable = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
    assert_eq!(elsewhere(variable, azure), "warning");
    let nothing = canned(&["HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"]);
    assert_eq!(elsewhere(variable, nothing), "good");
    let skipped: Value = finding(&run, "metadata service").0.into();
    assert_eq!(skipped, "skipped");
}

#[test]
fn an_enrolled_host_asks_the_hub_with_its_own_credential() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    let run = doctor(&host, &hub, "", &[]).run().expect(0);
    assert_eq!(finding(&run, "credential").0, "good");
    let id = host.key("agent_id").unwrap();
    hub.post(&format!("agents/{id}/rotate-token"), serde_json::json!({}));
    let run = doctor(&host, &hub, "", &[]).run().expect(77);
    expect_bad(&run, "credential", "does not know this host any more");
    let run = doctor(&TestHost::new(), &hub, &hub.token(), &[])
        .run()
        .expect(0);
    assert_eq!(finding(&run, "credential").0, "skipped");
}
