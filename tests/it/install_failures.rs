//! Failures of `install` of a host's tree (`--root`): reported before any change, or rolled back.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::common::{TestHost, TestHub};
use crate::install::{BINARY, LINK, UNIT, host, install, tree};

#[test]
fn errors_in_the_input_are_reported_before_any_change() {
    let hub = TestHub::new();
    let obstacle = |host: &TestHost, path: &str| {
        host.write_file(&format!("{path}/x"), "");
    };
    for (path, message) in [
        (BINARY, "it is not a regular file"),
        (UNIT, "it is not a regular file"),
        (LINK, "it is not a symbolic link"),
    ] {
        let host = host();
        obstacle(&host, path);
        host.install_ca(&hub);
        let before = tree(&host);
        let token = hub.token();
        install(&host, &hub, &token, &[])
            .expect(73)
            .expect_stderr(&[path, message, "  hint:  move it away", ".old"]);
        assert_eq!(tree(&host), before);
    }
    let host = host();
    host.write_file("etc/monsys", "");
    host.write_file("etc/x", "");
    let before = tree(&host);
    host.agent(&["install", "--no-enrol"])
        .run()
        .expect(73)
        .expect_stderr(&["agent.toml cannot be written", "Not a directory"]);
    assert_eq!(tree(&host), before);

    let host = self::host();
    let before = tree(&host);
    host.agent(&["install"])
        .run()
        .expect(64)
        .expect_stderr(&["no token was given"]);
    host.agent(&["install"])
        .env("SUDO_USER", "ada")
        .env("MONSYS_TAGS", "a")
        .run()
        .expect(64)
        .expect_stderr(&["sudo --preserve-env=MONSYS_TOKEN,MONSYS_TAGS monsys-agent install"]);
    host.agent(&["install", "--hub-url", "nonsense"])
        .run()
        .expect(64);
    host.agent(&["install", "--no-enrol", "--defer"])
        .run()
        .expect(64);
    assert_eq!(tree(&host), before);
    assert!(hub.agents().is_empty());
}

#[test]
fn a_failed_enrolment_rolls_back_all_but_a_key_that_the_hub_may_know() {
    let (hub, host) = (TestHub::new(), host());
    host.install_ca(&hub);
    let before = tree(&host);
    install(&host, &hub, "enrl_unknown0000", &[])
        .expect(77)
        .expect_stderr(&[
            "rolling back what this run did",
            "the hub rejected the token",
        ]);
    let remaining: Vec<_> = tree(&host)
        .into_iter()
        .map(|entry| entry.0)
        .filter(|path| !before.iter().any(|entry| entry.0 == *path))
        .collect();
    let names = [
        "",
        "/agent-signing.key",
        "/install.json",
        "/lock",
        "/state.json",
    ];
    let expected = names.map(|name| host.path(&format!("var/lib/monsys{name}")));
    assert_eq!(remaining, expected);
    let key = fs::read(host.path("var/lib/monsys/agent-signing.key")).unwrap();
    let token = hub.token();
    install(&host, &hub, &token, &[]).expect(0);
    assert_eq!(
        fs::read(host.path("var/lib/monsys/agent-signing.key")).unwrap(),
        key
    );
    hub.expect_one_slot();
    host.agent(&["uninstall", "--purge"]).run().expect(0);
    assert_eq!(tree(&host), before);
}

#[test]
fn a_packaged_host_and_an_invalid_install_record_are_rejected() {
    let host = host();
    host.write_file("usr/bin/monsys-agent", "");
    for command in [&["install", "--no-enrol"][..], &["uninstall"]] {
        host.agent(command)
            .run()
            .expect(64)
            .expect_stderr(&["belongs to a package", "systemctl enable --now"]);
    }
    let host = self::host();
    for (text, mode) in [("{", 0o644), ("{\"version\":\"1\",\"done\":[]}", 0o666)] {
        let record = host.write_file("var/lib/monsys/install.json", text);
        fs::set_permissions(&record, fs::Permissions::from_mode(mode)).unwrap();
        for command in [&["install", "--no-enrol"][..], &["uninstall"]] {
            host.agent(command)
                .run()
                .expect(78)
                .expect_stderr(&["install.json", "install record"]);
        }
    }
}
