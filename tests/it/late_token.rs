//! Token sources that have no token yet: they are tried again until the deadline, as the hub is.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::common::{Run, TestHost, TestHub, until};

/// A command that fails differently at each run, and prints the token at its fourth. It counts in a file.
const LATE: &str = "n=$(cat runs 2>/dev/null || echo 0); n=$((n + 1)); echo $n >runs
case $n in
1) echo plainsecret-of-run-1; echo 'AccessDenied for plainsecret-of-run-1' >&2; exit 254 ;;
2) echo '<html>502 Bad Gateway</html>' ;;
3) ;;
*) cat run/secret ;;
esac";
const PATH: (&str, &str) = ("PATH", "/usr/bin:/bin");

#[test]
fn a_token_command_that_has_no_token_yet_is_run_again() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.write_file("run/secret", &hub.token());
    let run = host
        .enrol_with(&hub, "", &["--token-command", LATE])
        .env(PATH.0, PATH.1)
        .run()
        .expect(0)
        .expect_stderr(&[
            "try 1: --token-command: exit status: 254; it said: \"AccessDenied for [redacted]\"; next try in ",
            "try 2: --token-command: it contains a space",
            "try 3: --token-command: it printed nothing; next try in ",
        ]);
    for printed in ["plainsecret", "502 Bad Gateway"] {
        assert!(!run.stderr.contains(printed), "{}", run.stderr);
    }
    assert_eq!(fs::read_to_string(host.path("runs")).unwrap(), "4\n");
    hub.expect_one_slot();
}

#[test]
fn a_token_file_that_comes_later_is_waited_for() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let log = host.path("log");
    let file = host.path("run/late/secret");
    let mut to_log = Command::new("/bin/sh");
    to_log.args(["-c", "log=$1; shift; exec \"$@\" 2>\"$log\"", "sh"]);
    to_log.arg(&log);
    let agent = host.enrol_with(&hub, "", &["--token-file", file.to_str().unwrap()]);
    let run = agent.under(&mut to_log).start();
    let logged = |part: &str| {
        let part = format!("--token-file {}: {part}", file.display());
        until(&part, || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains(&part))
        });
    };
    logged("No such file or directory");
    host.write_file("run/late/secret", "");
    logged("it is empty");
    host.write_file("run/late/secret", &hub.token());
    Run::of(run).expect(0);
    hub.expect_one_slot();
}

#[test]
fn the_error_at_the_deadline_names_the_tries_and_the_last_cause() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let empty = host.write_file("run/empty", "");
    for (arguments, code, cause) in [
        (["--token-file", "/nonexistent/token"], 74, "No such file"),
        (["--token-file", empty.to_str().unwrap()], 64, "it is empty"),
        (["--token-command", "true"], 74, "it printed nothing"),
        (
            ["--token-command", "exec tail -f /dev/null"],
            74,
            "did not end",
        ),
        (
            ["--token-command", "echo not yet"],
            64,
            "it contains a space",
        ),
    ] {
        let arguments = [&["--wait", "1s"], &arguments[..]].concat();
        host.enrol_with(&hub, "", &arguments)
            .env(PATH.0, PATH.1)
            .run()
            .expect(code)
            .expect_stderr(&[
                arguments[2],
                cause,
                "; the deadline is 1s, --wait)",
                "if the token comes later, allow more time: --wait DURATION",
            ]);
    }
    assert_eq!(hub.spent(), 0);
}

#[test]
fn a_token_source_that_waiting_cannot_fix_fails_at_once() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let malformed = host.write_file("run/malformed", "no token");
    let malformed = malformed.to_str().unwrap();
    let folder = host.path("run");
    host.write_file("run/not-executable", "");
    for (arguments, code, cause) in [
        (
            ["--token-command", "no-such-program"],
            74,
            "exit status: 127",
        ),
        (
            ["--token-command", "./run/not-executable"],
            74,
            "exit status: 126",
        ),
        (["--token-file", malformed], 64, "it contains a space"),
        (
            ["--token-file", folder.to_str().unwrap()],
            74,
            "Is a directory",
        ),
        // A pipe cannot be read again.
        (["--token-file", "/dev/stdin"], 64, "it is empty"),
        (["--token-file", "-"], 64, "it is empty"),
    ] {
        let run = host
            .enrol_with(&hub, "", &arguments)
            .env(PATH.0, PATH.1)
            .stdin(b" ")
            .run()
            .expect(code)
            .expect_stderr(&[cause]);
        assert!(!run.stderr.contains("next try"), "{}", run.stderr);
    }
    host.enrol_with(&hub, "", &["--token-command", "no-such-program"])
        .env(PATH.0, PATH.1)
        .run()
        .expect(74)
        .expect_stderr(&["hint:  install the program"]);
}

#[test]
fn only_an_enrolment_waits_for_a_token() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let ca_file = host.install_ca(&hub).unwrap().display().to_string();
    let hub_url = hub.url();
    let to_hub = ["--hub-url", &hub_url, "--ca-file", &ca_file];
    let source = ["--token-file", "/nonexistent/token"];
    let does_not_wait = |arguments: &[&str]| {
        let arguments = [arguments, &source, &to_hub].concat();
        let run = host.agent(&arguments).run();
        assert!(!run.stderr.contains("next try"), "{}", run.stderr);
        run
    };
    assert_ne!(does_not_wait(&["doctor"]).code, 0);
    does_not_wait(&["enrol", "--dry-run"]).expect(74);
    host.enrol(&hub, &hub.token()).run().expect(0);
    // The token of an enrolled host is only scrubbed.
    does_not_wait(&["enrol", "--scrub-cloud-init", "yes"]).expect(0);
}

#[test]
fn a_rotation_waits_for_its_token() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    let id = host.key("agent_id").unwrap();
    let rotated = hub.post(&format!("agents/{id}/rotate-token"), json!({}));
    host.write_file("run/secret", rotated["token"].as_str().unwrap());
    let command = "[ -e ran ] || { : >ran; exit 22; }; cat run/secret";
    host.agent(&["rotate-token", "--token-command", command])
        .env(PATH.0, PATH.1)
        .run()
        .expect(0)
        .expect_stderr(&["try 1: --token-command: exit status: 22"]);
}
