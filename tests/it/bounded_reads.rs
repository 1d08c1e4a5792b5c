//! Files named by settings are read within limits of size and time.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::common::{Prepared, TestHost, TestHub, needs_root};

const TOKEN: &str = "enrl_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefg";

fn fifo(host: &TestHost) -> PathBuf {
    let path = host.path("fifo");
    nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    path
}

/// Returns the commands that need a hub, on an enrolled host.
fn commands(host: &TestHost) -> Vec<(&'static str, Prepared)> {
    [
        ("enrol", &["enrol", "--force"][..]),
        ("unenrol", &["unenrol"]),
        ("rotate-key", &["rotate-key"]),
        ("run", &["run"]),
    ]
    .map(|(name, arguments)| {
        let agent = host.agent(arguments).env("MONSYS_TOKEN", TOKEN);
        (name, agent.env("MONSYS_WAIT", "1s"))
    })
    .into()
}

/// Makes an enrolled host whose `agent.toml` then names `ca_file` as its CA.
fn enrolled(hub: &TestHub, ca_file: &str) -> TestHost {
    let host = TestHost::new();
    host.enrol(hub, &hub.token()).run().expect(0);
    let text = host.agent_toml();
    let lines = text.lines().map(|line| {
        if line.starts_with("ca_file") {
            format!("ca_file = \"{ca_file}\"\n")
        } else {
            format!("{line}\n")
        }
    });
    let text: String = lines.collect();
    assert!(text.contains(ca_file), "{text}");
    fs::write(host.path("etc/monsys/agent.toml"), text).unwrap();
    host
}

#[test]
#[ignore = "needs root: makes a device node"]
fn a_device_as_ca_file_fails_every_command() {
    needs_root();
    let hub = TestHub::new();
    // Below the root, since paths in the file are the host's.
    let host = enrolled(&hub, "/zero");
    let zero = makedev(1, 5);
    mknod(
        &host.path("zero"),
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o644),
        zero,
    )
    .unwrap();
    for (name, agent) in commands(&host) {
        let run = agent.run();
        assert_eq!(run.code, 74, "{name}: {}", run.stderr);
        run.expect_stderr(&["`ca_file` in", "/zero", "it is not a regular file"]);
    }
    let run = host.agent(&["doctor"]).env("MONSYS_TOKEN", TOKEN).run();
    assert!(run.stdout.contains("it is not a regular file"), "{run:?}");
    let run = host
        .agent(&["enrol", "--force", "--ca-file", "/dev/zero"])
        .env("MONSYS_TOKEN", TOKEN)
        .run();
    run.expect(74)
        .expect_stderr(&["--ca-file /dev/zero", "not a regular file"]);
}

#[test]
fn a_pipe_in_a_setting_is_not_waited_for() {
    let hub = TestHub::new();
    let host = enrolled(&hub, "/fifo");
    fifo(&host);
    // Without --wait, so the deadline is five minutes.
    for arguments in [&["enrol", "--force"][..], &["unenrol"], &["run"]] {
        let agent = host.agent(arguments).env("MONSYS_TOKEN", TOKEN);
        agent
            .run()
            .expect(74)
            .expect_stderr(&["`ca_file` in", "it is a pipe"]);
    }
    let run = host.agent(&["doctor"]).env("MONSYS_TOKEN", TOKEN).run();
    assert!(run.stdout.contains("it is a pipe"), "{run:?}");
    let text = host.agent_toml().replace("ca_file", "token_file");
    fs::write(host.path("etc/monsys/agent.toml"), text).unwrap();
    host.agent(&["enrol", "--force"])
        .run()
        .expect(74)
        .expect_stderr(&["`token_file` in", "it is not a regular file"]);
}

#[test]
fn a_pipe_without_a_writer_fails_at_the_deadline() {
    let hub = TestHub::new();
    let host = TestHost::new();
    let pipe = fifo(&host).display().to_string();
    let url = hub.url();
    let flags = ["--hub-url", &url, "--ca-file", &pipe, "--wait", "1s"];
    for command in ["enrol", "install"] {
        let run = host
            .agent(&[&[command], &flags[..]].concat())
            .env("MONSYS_TOKEN", TOKEN)
            .run();
        run.expect(74)
            .expect_stderr(&["--ca-file", "did not end before the deadline (--wait)"]);
    }
    let run = host
        .agent(&[&["doctor"], &flags[..]].concat())
        .env("MONSYS_TOKEN", TOKEN)
        .run();
    assert!(
        run.stdout.contains("did not end before the deadline"),
        "{run:?}"
    );
    host.enrol(&hub, &hub.token()).run().expect(0);
    for (name, agent) in commands(&host) {
        let run = agent.env("MONSYS_CA_FILE", &pipe).run();
        assert_eq!(run.code, 74, "{name}: {}", run.stderr);
        run.expect_stderr(&["MONSYS_CA_FILE", "it is a pipe"]);
    }
}

#[test]
fn a_process_substitution_is_read_once() {
    let hub = TestHub::new();
    let ca_file = hub.ca_file().unwrap().display().to_string();
    let bash = |host: &TestHost, arguments: &[&str]| {
        let url = hub.url();
        let agent = host
            .agent(&[arguments, &["--hub-url", &url]].concat())
            .env("MONSYS_TOKEN", &hub.token())
            .env("PATH", "/usr/bin:/bin");
        let line = format!("{} --ca-file <(cat {ca_file})", agent.line());
        agent
            .instead(Command::new("bash").args(["-c", &line]))
            .run()
    };
    let host = TestHost::new();
    let run = bash(&host, &["enrol"]).expect(0);
    run.expect_stderr(&["is a pipe, so it is not written to the configuration"]);
    assert_eq!(host.key("ca_file"), None);
    bash(&host, &["doctor"]).expect(0);

    let host = TestHost::new();
    host.write_file("usr/lib/systemd/systemd", "");
    bash(&host, &["install"]).expect(0);
    assert_eq!(
        host.key("ca_file").as_deref(),
        Some("/etc/monsys/hub-ca.pem")
    );
    assert_eq!(
        fs::read(host.path("etc/monsys/hub-ca.pem")).unwrap(),
        fs::read(&ca_file).unwrap()
    );
    host.agent(&["rotate-token"])
        .env("MONSYS_TOKEN", &host.key("agent_token").unwrap())
        .run()
        .expect(0);
}

#[test]
fn a_file_over_the_limit_is_rejected() {
    let hub = TestHub::new();
    let host = enrolled(&hub, "/large.pem");
    host.write_file("large.pem", &"#".repeat((1 << 20) + 1));
    host.agent(&["unenrol"])
        .run()
        .expect(74)
        .expect_stderr(&["`ca_file` in", "larger than 1 MiB"]);
    let host = TestHost::new();
    let line = format!(
        "{} --ca-file <(yes)",
        host.agent(&["enrol", "--hub-url", &hub.url()]).line()
    );
    host.agent(&["enrol", "--hub-url", &hub.url()])
        .env("MONSYS_TOKEN", TOKEN)
        .env("PATH", "/usr/bin:/bin")
        .instead(Command::new("bash").args(["-c", &line]))
        .run()
        .expect(74)
        .expect_stderr(&["--ca-file", "larger than 1 MiB"]);
}

#[test]
fn facts_fall_back_from_files_that_would_block() {
    let host = TestHost::new();
    let pipe = fifo(&host);
    fs::remove_file(host.path("etc/os-release")).unwrap();
    std::os::unix::fs::symlink(&pipe, host.path("etc/os-release")).unwrap();
    fs::remove_file(host.path("etc/machine-id")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", host.path("etc/machine-id")).unwrap();
    for path in ["/fifo", "/zero"] {
        let _ = std::os::unix::fs::symlink("/dev/zero", host.path("zero"));
        let run = host
            .agent(&["facts", "--output", "json"])
            .env("HOST_HOSTNAME_FILE", path)
            .env("HOST_OS_RELEASE_FILE", path)
            .run()
            .expect(0);
        assert_eq!(run.json()["os_info"], "linux");
        assert_ne!(run.json()["hostname"], "web-3");
    }
}

#[test]
fn a_file_of_a_fact_that_was_given_and_is_of_no_use_is_named_with_the_reason() {
    let host = TestHost::new();
    fifo(&host);
    host.write_file("folder/file", "");
    host.write_file("blank", " \n");
    let large = "x".repeat(1024 * 1024 + 1);
    host.write_file("large", &large);
    for (path, reason) in [
        ("/missing", "No such file"),
        ("/folder", "not a regular file"),
        ("/fifo", "not a regular file"),
        ("/large", "larger than 1 MiB"),
        ("/blank", "it has no"),
    ] {
        for variable in ["HOST_HOSTNAME_FILE", "HOST_OS_RELEASE_FILE"] {
            let run = host.agent(&["facts"]).env(variable, path).run().expect(0);
            run.expect_stderr(&[&format!("{variable}: {path} is not used: "), reason]);
        }
    }
    // The built-in paths exist in containers only.
    let run = host.agent(&["facts"]).run().expect(0);
    assert!(!run.stderr.contains("is not used"), "{}", run.stderr);
}
