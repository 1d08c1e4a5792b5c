//! A secret of any form that a command or a server repeats is in no error.

use serde_json::json;

use crate::common::{Run, TestHost, TestHub};

/// Panics if the run printed a part of `secret`.
#[track_caller]
fn without(run: Run, secret: &str) -> Run {
    let shown = format!("{}{}", run.stdout, run.stderr);
    for part in secret.as_bytes().windows(8) {
        let part = std::str::from_utf8(part).unwrap();
        assert!(!shown.contains(part), "{part}: {shown}");
    }
    run
}

const DIALECTS: [&str; 4] = ["monsys", "mimir", "ravenxcope", "lyftdata"];

#[test]
fn a_secret_printed_by_a_failed_token_command_is_redacted() {
    for dialect in DIALECTS {
        for (command, secret) in [
            (
                "echo SECRETabcdef0123456789 >&2; exit 1",
                "SECRETabcdef0123456789",
            ),
            (
                "echo plainwords; echo cannot use plainwords >&2; exit 1",
                "plainwords",
            ),
            (
                "echo not: correcthorsebatt; echo bad correcthorse >&2; exit 1",
                "correcthorse",
            ),
        ] {
            for format in ["text", "json"] {
                let host = TestHost::new();
                let run = host
                    .agent(&[
                        "enrol",
                        "--dialect",
                        dialect,
                        "--hub-url",
                        "https://127.0.0.1:9",
                        "--wait",
                        "0s",
                        "--output",
                        format,
                        "--worker-name",
                        "w1",
                        "--token-command",
                        command,
                    ])
                    .env("SENSOR_ID", "s1")
                    .run();
                without(run, secret).expect(74).expect_stderr(&[
                    "--token-command",
                    "exit status: 1",
                    "[redacted]",
                ]);
            }
        }
    }
}

#[test]
fn redaction_preserves_what_helps_an_operator() {
    let host = TestHost::new();
    host.agent(&[
        "enrol",
        "--wait",
        "0s",
        "--token-command",
        "echo 'cat: /run/secrets/monsys-token: Permission denied' >&2; exit 1",
    ])
    .run()
    .expect(74)
    .expect_stderr(&["cat: /run/secrets/monsys-token: Permission denied"]);
    host.agent(&["enrol", "--wait", "0s", "--token-command", "exit 3"])
        .run()
        .expect(74)
        .expect_stderr(&["exit status: 3", "it said nothing"]);
}

#[test]
fn a_secret_repeated_by_a_server_is_redacted() {
    let secret = "s3cret-of-the-\"fleet\"-of-2026";
    for message in [
        format!("no such secret: {secret}"),
        // Cut off in the middle of the secret, by the server and by the agent.
        format!("no such secret: {}", &secret[..18]),
        format!("{}{secret}", "x ".repeat(93)),
    ] {
        let (hub, host) = (TestHub::new(), TestHost::new());
        let body = json!({"message": message}).to_string();
        hub.fault(json!({"route": "mimir-enroll", "status": 400, "body": body}));
        let ca_file = host.install_ca(&hub).unwrap();
        let run = host
            .agent(&["enrol", "--dialect", "mimir", "--hub-url", &hub.url()])
            .env("MONSYS_CA_FILE", ca_file.to_str().unwrap())
            .env("MIMIR_ENROLLMENT_SECRET", secret)
            .run();
        without(run, "s3cret-of-the-")
            .expect(65)
            .expect_stderr(&["[redacted]"]);
    }
}
