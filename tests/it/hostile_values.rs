//! Settings with control characters, and values that are written to a unit.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{Run, TestHost};

/// The value for each setting of a path or URL.
const LINE: &str = "x\nExecStartPre=+/usr/bin/touch /root/OWNED\nX=";

/// Runs `arguments` with `value` in one place, and expects an error that names the place.
#[track_caller]
fn refused(host: &TestHost, arguments: &[&str], variable: Option<(&str, &str)>, place: &str) {
    let mut agent = host.agent(arguments);
    if let Some((name, value)) = variable {
        agent = agent.env(name, value);
    }
    agent
        .run()
        .expect(64)
        .expect_stderr(&[place, "is the control character U+000A"]);
}

#[test]
fn paths_and_urls_with_control_characters_are_rejected() {
    let host = TestHost::new();
    let path = format!("/{LINE}");
    let url = format!("https://hub.example.com/{LINE}");
    for flag in ["--config", "--state-dir", "--ca-file", "--token-file"] {
        refused(&host, &["enrol", flag, &path], None, flag);
    }
    refused(&host, &["enrol", "--hub-url", &url], None, "--hub-url");
    for (name, value) in [
        ("MONSYS_CONFIG", &path),
        ("MONSYS_STATE_DIR", &path),
        ("MONSYS_CA_FILE", &path),
        ("MONSYS_TOKEN_FILE", &path),
        ("CREDENTIALS_DIRECTORY", &path),
        ("HOST_HOSTNAME_FILE", &path),
        ("HOST_OS_RELEASE_FILE", &path),
        ("MONSYS_HUB_URL", &url),
        ("HTTPS_PROXY", &url),
    ] {
        refused(&host, &["enrol"], Some((name, value)), name);
    }
    let proxy = [("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", "a\nb")];
    host.agent(&["enrol"])
        .env(proxy[0].0, proxy[0].1)
        .env(proxy[1].0, proxy[1].1)
        .run()
        .expect(64)
        .expect_stderr(&["NO_PROXY", "control character"]);
    for key in [
        "state_dir",
        "ca_file",
        "token_file",
        "host_hostname_file",
        "host_os_release_file",
        "hub_url",
        "https_proxy",
    ] {
        let text = toml::to_string(&toml::Table::from_iter([(
            key.to_owned(),
            toml::Value::String(if key.contains("url") || key.contains("proxy") {
                url.clone()
            } else {
                path.clone()
            }),
        )]));
        host.write_file("etc/monsys/agent.toml", &text.unwrap());
        refused(&host, &["enrol"], None, &format!("`{key}` in"));
        // security.md, A2: the value is not written to a drop-in.
        host.write_file("usr/lib/systemd/systemd", "");
        host.agent(&["install", "--no-enrol"]).run().expect(64);
        assert!(!host.path("etc/systemd").exists());
    }
    for character in ["\u{1}", "\u{7f}", "\u{85}", "\u{9b}"] {
        host.agent(&["facts", "--state-dir", &format!("/a{character}b")])
            .run()
            .expect(64)
            .expect_stderr(&["--state-dir", "character 3 is the control character"]);
    }
}

#[test]
fn paths_and_urls_of_other_dialects_with_control_characters_are_rejected() {
    let host = TestHost::new();
    let path = format!("/{LINE}");
    let url = format!("https://hub.example.com/{LINE}");
    for (dialect, variable, value) in [
        ("mimir", "MIMIR_DIR", &path),
        ("mimir", "MIMIR_SERVER_URL", &url),
        ("ravenxcope", "CONFIG_FILE", &path),
        ("ravenxcope", "BACKEND_URL", &url),
        ("lyftdata", "LYFTDATA_WORKER_JOBS_DIR", &path),
        ("lyftdata", "LYFTDATA_URL", &url),
    ] {
        let arguments = ["enrol", "--dialect", dialect];
        refused(&host, &arguments, Some((variable, value)), variable);
    }
    let flag = |dialect, flag| ["enrol", "--dialect", dialect, flag, &path].map(str::to_owned);
    for (dialect, name) in [
        ("mimir", "--state-dir"),
        ("ravenxcope", "--config"),
        ("lyftdata", "--worker-jobs-dir"),
    ] {
        let arguments = flag(dialect, name);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        refused(&host, &arguments, None, name);
    }
    host.write_file(
        "etc/mimir/agent.json",
        r#"{"server_url": "https://x", "ca_file": "/a\u000ab"}"#,
    );
    host.agent(&["status", "--dialect", "mimir"])
        .run()
        .expect(64)
        .expect_stderr(&["`ca_file` in", "agent.json", "control character"]);
}

/// Returns the units below `host` as systemd's parser reads them, line by line.
fn read_by_systemd(host: &TestHost) -> String {
    let units = host.path("etc/systemd/system");
    // The program does not exist on this machine, and the unit is not started.
    let dump = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--generators=no"])
        .arg(units.join("monsys-agent.service"))
        .env("SYSTEMD_UNIT_PATH", format!("{}:", units.display()))
        .env("SYSTEMD_LOG_LEVEL", "debug")
        .output()
        .expect("this test needs systemd-analyze: apt-get install systemd");
    let text = String::from_utf8(dump.stdout).unwrap();
    assert!(
        text.contains("DropIn Path:"),
        "systemd-analyze printed no unit:\n{text}\n{}",
        String::from_utf8_lossy(&dump.stderr)
    );
    text
}

#[track_caller]
fn install(host: &TestHost, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut agent = host.agent(&[&["install", "--no-enrol", "--no-start"], arguments].concat());
    for (name, value) in variables {
        agent = agent.env(name, value);
    }
    agent.run().expect(0)
}

#[test]
fn systemd_reads_back_the_exact_values() {
    // A variable, specifiers, quotes, escapes, continuations, comments, spaces, and other scripts.
    for hostile in [
        "$HOME ${HOME} $$ $(id) `id`",
        "50% %h %% %n%i",
        "a\"b'c \"' ''",
        r"back\slash\n\x41\\ \",
        "#not ;a comment=",
        " leading and trailing ",
        "Zürich/東京/🦀/e\u{301}",
        "-/dash +plus @at :colon !bang ~tilde *star ?",
    ] {
        let host = TestHost::new();
        host.write_file("usr/lib/systemd/systemd", "");
        let state = format!("/srv/state {hostile}");
        let config = format!("/srv/config {hostile}/agent.toml");
        install(
            &host,
            &["--state-dir", &state],
            &[("MONSYS_CONFIG", &config)],
        );
        let read = read_by_systemd(&host);
        // The unit names folders too, and is read before the drop-in.
        for expected in [
            format!("\tEnvironment: MONSYS_CONFIG={config}\n"),
            format!("\tEnvironment: MONSYS_STATE_DIR={state}\n"),
        ] {
            assert!(read.contains(&expected), "no {expected:?} in\n{read}");
        }

        let host = TestHost::new();
        host.write_file("usr/lib/systemd/systemd", "");
        let folder = format!("/srv/mimir {hostile}");
        let arguments = ["--dialect", "mimir", "--hub-url", "https://localhost"];
        install(&host, &arguments, &[("MIMIR_DIR", &folder)]);
        let read = read_by_systemd(&host);
        let expected = format!("\tEnvironment: MIMIR_DIR={folder}\n");
        assert!(read.contains(&expected), "no {expected:?} in\n{read}");
        let drop_ins = host.names("etc/systemd/system/monsys-agent.service.d");
        assert_eq!(drop_ins, ["50-dialect.conf"]);
        let text = fs::read_to_string(
            Path::new(&host.path("etc/systemd/system/monsys-agent.service.d"))
                .join("50-dialect.conf"),
        );
        assert_eq!(text.unwrap().lines().count(), 3);
    }
}
