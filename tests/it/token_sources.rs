//! Token sources.

use std::fs;

use crate::common::{Run, TestHost, TestHub, needs_root, until};

#[test]
fn each_token_source_enrols_and_white_space_is_trimmed() {
    let hub = TestHub::new();
    let token = hub.token();
    let spaced = format!("  {token}\r\n");

    let host = TestHost::new();
    host.enrol(&hub, &spaced).run().expect(0);

    let host = TestHost::new();
    let file = host.write_file("run/secret", &spaced);
    let path = file.to_str().unwrap();
    host.enrol_with(&hub, "", &["--token-file", path])
        .run()
        .expect(0)
        .expect_stderr(&["can be read by other users"]);

    let host = TestHost::new();
    host.enrol_with(&hub, "", &["--token-file", "-"])
        .stdin(spaced.as_bytes())
        .run()
        .expect(0);

    let host = TestHost::new();
    host.write_file("run/secret", &spaced);
    host.enrol_with(&hub, "", &["--token-command", "cat run/secret"])
        .env("PATH", "/usr/bin:/bin")
        .run()
        .expect(0);

    let host = TestHost::new();
    let file = host.write_file("run/secret", &spaced);
    host.enrol(&hub, "")
        .env("MONSYS_TOKEN_FILE", file.to_str().unwrap())
        .run()
        .expect(0);

    let host = TestHost::new();
    let file = host.write_file("run/credentials/monsys-token", &spaced);
    host.enrol(&hub, "")
        .env(
            "CREDENTIALS_DIRECTORY",
            file.parent().unwrap().to_str().unwrap(),
        )
        .run()
        .expect(0);

    let host = TestHost::new();
    host.write_file("run/secret", &spaced);
    host.write_file("etc/monsys/agent.toml", "token_file = '/run/secret'\n");
    host.enrol(&hub, "").run().expect(0);

    assert_eq!(hub.agents().len(), 7);
    assert_eq!(hub.spent(), 7);
}

#[test]
fn flags_come_before_the_environment_and_that_before_the_file() {
    let hub = TestHub::new();
    let token = hub.token();
    let host = TestHost::new();
    let good = host.write_file("run/good", &token);
    let bad = host.write_file("run/bad", "enrl_wrong");
    host.write_file("etc/monsys/agent.toml", "token_file = '/run/bad'\n");
    let good = good.to_str().unwrap();
    host.enrol_with(&hub, "enrl_wrong", &["--token-file", good])
        .env("MONSYS_TOKEN_FILE", bad.to_str().unwrap())
        .run()
        .expect(0);
    let host = TestHost::new();
    host.write_file("etc/monsys/agent.toml", "token_file = '/run/missing'\n");
    host.enrol(&hub, &token)
        .env("MONSYS_TOKEN_FILE", "/run/missing")
        .run()
        .expect(0);
}

#[test]
fn a_missing_token_lists_every_source() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, "").run().expect(64).expect_stderr(&[
        "no token was given",
        "MONSYS_TOKEN",
        "--token-file PATH",
        "--token-file -",
        "--token-command CMD",
    ]);
    host.enrol_with(&hub, "", &["--token-file", "-"])
        .stdin(b" \n")
        .run()
        .expect(64)
        .expect_stderr(&["standard input", "it is empty"]);
    assert!(!host.path("etc/monsys").exists());
    assert!(!host.path("var/lib/monsys").exists());
}

#[test]
fn a_failing_token_source_is_reported() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let file = |path| ["--wait", "0s", "--token-file", path];
    host.enrol_with(&hub, "", &file("/nonexistent/token"))
        .run()
        .expect(74)
        .expect_stderr(&["--token-file /nonexistent/token", "No such file"]);
    let command = |command| ["--wait", "0s", "--token-command", command];
    host.enrol_with(&hub, "", &command("echo enrl_leakedbyerror >&2; exit 3"))
        .run()
        .expect(74)
        .expect_stderr(&["--token-command", "exit status: 3", "enrl_[redacted]"]);
    host.enrol_with(&hub, "", &command("true"))
        .env("PATH", "/usr/bin:/bin")
        .run()
        .expect(74)
        .expect_stderr(&["printed nothing"]);
    host.enrol_with(&hub, "", &command("head -c 9999 /dev/zero"))
        .env("PATH", "/usr/bin:/bin")
        .run()
        .expect(64)
        .expect_stderr(&["--token-command", "4096 bytes"]);
    host.enrol_with(&hub, "", &["--token-command", "x", "--token-file", "y"])
        .run()
        .expect(64)
        .expect_stderr(&["both set"]);
    // A pipe without a writer.
    let run = host
        .enrol_with(&hub, "", &["--token-file", "-", "--wait", "1s"])
        .open_stdin()
        .start();
    Run::of_silent(run)
        .expect(74)
        .expect_stderr(&["standard input", "did not end before the deadline"]);
    // `exec` replaces the shell with the endless program, so that no process remains.
    host.enrol_with(
        &hub,
        "",
        &["--token-command", "exec tail -f /dev/null", "--wait", "1s"],
    )
    .env("PATH", "/usr/bin:/bin")
    .run()
    .expect(74)
    .expect_stderr(&["did not end before the deadline"]);
}

#[test]
fn a_token_command_with_a_background_child_does_not_block() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let marker = host.write_file("still-running", "").display().to_string();
    let forever = format!("tail -f {marker} | cat");
    host.enrol_with(&hub, "", &["--wait", "1s", "--token-command", &forever])
        .env("PATH", "/usr/bin:/bin")
        .run()
        .expect(74);
    let is_running = || {
        fs::read_dir("/proc").unwrap().any(|entry| {
            let cmdline = entry.unwrap().path().join("cmdline");
            fs::read(cmdline).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(&marker))
        })
    };
    // The process was killed before the agent exited, and disappears after a moment.
    until("the end of the command", || !is_running());

    host.write_file("run/secret", &hub.token());
    host.enrol_with(
        &hub,
        "",
        &[
            "--token-command",
            "tail -f /dev/null & echo $! >pid; cat run/secret",
        ],
    )
    .env("PATH", "/usr/bin:/bin")
    .run()
    .expect(0);
    let pid = fs::read_to_string(host.path("pid")).unwrap();
    let ended = std::process::Command::new("kill")
        .arg(pid.trim())
        .status()
        .unwrap();
    assert!(ended.success());
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn root_runs_no_token_command_of_another_user() {
    needs_root();
    let (hub, host) = (TestHub::new(), TestHost::new());
    let text = "token_command = 'touch ran; echo enrl_x1'\n";
    let path = host.write_file("etc/monsys/agent.toml", text);
    std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
    host.enrol(&hub, "")
        .env("PATH", "/usr/bin:/bin")
        .run()
        .expect(78)
        .expect_stderr(&["root does not trust", "agent.toml", "user 65534"]);
    assert!(!host.path("ran").exists());
}

#[test]
fn a_token_command_does_not_inherit_the_secret() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let token = hub.token();
    host.write_file("run/secret", &token);
    host.enrol_with(
        &hub,
        "enrl_fromtheenvironment",
        &[
            "--token-command",
            "tr '\\0' '\\n' </proc/self/environ >environ; tr '\\0' ' ' </proc/$PPID/cmdline >cmdline; cat run/secret",
        ],
    )
    .env("PATH", "/usr/bin:/bin")
    .env("KEPT", "yes")
    .run()
    .expect(0);
    let environ = std::fs::read_to_string(host.path("environ")).unwrap();
    assert!(environ.contains("KEPT=yes"));
    assert!(!environ.contains("enrl_"), "{environ}");
    let cmdline = std::fs::read_to_string(host.path("cmdline")).unwrap();
    assert!(cmdline.contains("enrol"));
    assert!(!cmdline.contains("enrl_"), "{cmdline}");
}
