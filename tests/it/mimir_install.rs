//! `install` for Mimir: the documented command, and the service.

use std::fs;

use crate::common::{TestHost, TestHub};
use crate::mimir::{agents, later, mint, uses};

const DROP_IN: &str = "etc/systemd/system/monsys-agent.service.d/50-dialect.conf";

/// Makes a tree with systemd and the service's user, and the documented command for it.
fn installed(more: &[&str]) -> (TestHub, TestHost) {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.write_file("usr/lib/systemd/systemd", "");
    let (secret, _) = mint(&hub, Some(1));
    let ca_file = host.install_ca(&hub).unwrap();
    let (argument, url) = (format!("--enrollment-secret={secret}"), hub.url());
    let arguments = [
        "install",
        &argument,
        "--hub-url",
        &url,
        "--ca-file",
        ca_file.to_str().unwrap(),
    ];
    for _ in 0..2 {
        let run = host.agent(&[&arguments, more].concat()).run().expect(0);
        assert!(!run.stdout.contains(&secret) && !run.stderr.contains(&secret));
    }
    for (path, bytes) in host.files("") {
        let has_secret = bytes
            .windows(secret.len())
            .any(|part| part == secret.as_bytes());
        assert!(!has_secret, "the secret is in {}", path.display());
    }
    assert_eq!((agents(&hub).len(), uses(&hub).as_str()), (1, "1 / 1"));
    (hub, host)
}

#[test]
fn the_documented_command_enrols_and_configures_the_dialect_of_the_service() {
    let (_hub, host) = installed(&[]);
    let drop_in = fs::read_to_string(host.path(DROP_IN)).unwrap();
    assert_eq!(
        drop_in,
        "# Written by `monsys-agent install` for --dialect.\n[Service]\nEnvironment=\"MONSYS_DIALECT=mimir\"\n"
    );
    assert!(!host.path("etc/monsys").exists());
    later(&host, &["status"]).run().expect(0);

    // The installation is removed, and the host's credential stays.
    host.agent(&["uninstall"]).run().expect(0);
    assert!(!host.path(DROP_IN).exists());
    later(&host, &["status"]).run().expect(0);
}

#[test]
fn another_folder_is_passed_to_the_service() {
    let (_hub, host) = installed(&["--state-dir", "/srv/mimir"]);
    let drop_in = fs::read_to_string(host.path(DROP_IN)).unwrap();
    assert!(drop_in.contains(" \"MIMIR_DIR=/srv/mimir\"\n"), "{drop_in}");
    assert!(!drop_in.contains("ReadWritePaths"), "{drop_in}");
    later(&host, &["status"])
        .env("MIMIR_DIR", "/srv/mimir")
        .run()
        .expect(0);
}

/// `OpenRC` has no separate file for the dialect of a service.
#[test]
fn openrc_gets_no_service_of_another_dialect() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.write_file("sbin/openrc-run", "");
    let url = hub.url();
    let install = || {
        let arguments = ["install", "--no-enrol", "--dialect", "mimir", "--hub-url"];
        let run = host.agent(&[&arguments[..], &[&url]].concat()).run();
        run.expect(0).stdout
    };
    let settings = "/etc/conf.d/monsys-agent";
    let report = install();
    for part in ["Not done: the service", settings, "MONSYS_DIALECT=mimir"] {
        assert!(report.contains(part), "{report}");
    }
    assert!(!host.path("etc/init.d/monsys-agent").exists());
    assert!(!host.path("etc/runlevels/default/monsys-agent").is_symlink());
    // The fix that the message names.
    host.write_file(&settings[1..], "export MONSYS_DIALECT=\"mimir\"\n");
    let report = install();
    assert!(!report.contains(settings), "{report}");
    assert!(host.path("etc/init.d/monsys-agent").exists());
    assert!(host.path("etc/runlevels/default/monsys-agent").is_symlink());
}

#[test]
fn a_service_of_another_dialect_is_not_replaced() {
    let (hub, host) = installed(&[]);
    let drop_in = fs::read_to_string(host.path(DROP_IN)).unwrap();
    let monsys = |more: &[&str]| {
        let arguments = ["install", "--dialect", "monsys", "--hub-url"];
        let ca_file = host.install_ca(&hub).unwrap();
        let more = [&["--ca-file", ca_file.to_str().unwrap()], more].concat();
        host.agent(&[&arguments[..], &[&hub.url()], &more].concat())
            .env("MONSYS_TOKEN", &hub.token())
            .run()
    };
    for more in [&[][..], &["--dry-run"]] {
        monsys(more).expect(64).expect_stderr(&[
            "serves mimir",
            "for monsys",
            "monsys-agent uninstall",
        ]);
    }
    assert_eq!(fs::read_to_string(host.path(DROP_IN)).unwrap(), drop_in);
    // The fix that the message names, and the same in the other direction.
    host.agent(&["uninstall"]).run().expect(0);
    monsys(&[]).expect(0);
    let url = hub.url();
    let mimir = ["install", "--dialect", "mimir", "--hub-url", &url];
    let run = host.agent(&mimir).run().expect(64);
    run.expect_stderr(&["serves monsys", "for mimir", "monsys-agent uninstall"]);
    assert!(!host.path(DROP_IN).exists());
}

#[test]
fn options_of_monsys_alone_are_rejected() {
    let host = TestHost::new();
    host.write_file("usr/lib/systemd/systemd", "");
    for arguments in [
        &["enrol", "--defer"][..],
        &["install", "--defer"],
        &["install", "--ephemeral"],
        &["unenrol"],
        &["rotate-token"],
        &["rotate-key"],
    ] {
        let run = later(&host, arguments).run().expect(64);
        run.expect_stderr(&["only hosts of a monsys hub", "--dialect monsys"]);
    }
    assert!(!host.path("etc/monsys").exists() && !host.path("etc/mimir").exists());
}
