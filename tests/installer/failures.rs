//! Failures of install.sh: it exits non-zero, prints the cause and a hint, and changes nothing.

use crate::fixture::Fixture;
use crate::machine::{Changes, Machine, run};
use crate::script::{CA, feed, served};

#[test]
#[ignore = "needs root: mounts an overlay"]
#[expect(clippy::too_many_lines, reason = "a table")]
fn an_unsuitable_host_is_not_changed() {
    type Breakage = fn(&Machine);
    let cases: [(&str, Breakage, i32, &[&str]); 10] = [
        (
            "no downloader",
            |machine| {
                machine.remove_program("curl");
                machine.remove_program("wget");
            },
            69,
            &["neither curl nor wget", "MONSYS_DOWNLOAD_URL=file://"],
        ),
        (
            "no checksum tool",
            |machine| {
                for tool in ["sha256sum", "shasum", "openssl", "busybox"] {
                    machine.remove_program(tool);
                }
            },
            69,
            &["no sha256sum, shasum, openssl or busybox"],
        ),
        (
            "an old machine",
            |machine| uname(machine, "Linux", "i686"),
            69,
            &["Linux on i686"],
        ),
        (
            "a small one",
            |machine| uname(machine, "Linux", "armv7l"),
            69,
            &["Linux on armv7l"],
        ),
        (
            "a Mac",
            |machine| uname(machine, "Darwin", "arm64"),
            69,
            &["Darwin on arm64"],
        ),
        (
            "no room for the program",
            |machine| machine.mount_small("usr/local/bin", "1m"),
            73,
            &["No space left", "/usr/local/bin/monsys-agent", "free space"],
        ),
        (
            "no folder to install into",
            |machine| {
                machine.remount("usr/local", "ro");
                machine.remount("opt", "ro");
                machine.remount("var/opt", "ro");
            },
            73,
            &["/usr/local/bin, /opt/monsys/bin, /var/opt/monsys/bin are read-only"],
        ),
        (
            "a read-only /etc",
            |machine| machine.remount("etc", "ro"),
            73,
            &[
                "/etc/monsys",
                "Read-only file system",
                "remount it read-write",
            ],
        ),
        (
            "something else in the unit's place",
            |machine| {
                machine.write_file("etc/systemd/system/monsys-agent.service/x", "");
            },
            73,
            &[
                "it is not a regular file",
                "mv /etc/systemd/system/monsys-agent.service",
            ],
        ),
        (
            "a service that does not start",
            |machine| {
                machine.write_file("run/broken", "");
            },
            74,
            &[
                "Job for monsys-agent.service failed",
                "line of the journal",
                "journalctl -u",
            ],
        ),
    ];
    for (what, break_it, code, message) in cases {
        let mut fixture = Fixture::new();
        break_it(&fixture.machine);
        fixture.before = fixture.machine.changes();
        let run = fixture.install(&[]);
        println!("{what}: {}", run.code);
        if code == 74 {
            // The hub has accepted the host by then: nothing is rolled back.
            run.expect(74).expect_stderr(message);
            fixture.hub.expect_one_slot();
            assert!(fixture.machine.path("usr/local/bin/monsys-agent").exists());
            std::fs::remove_file(fixture.machine.path("run/broken")).unwrap();
            fixture.install(&[]).expect(0);
            fixture.hub.expect_one_slot();
        } else {
            fixture.expect_failed(run, code, message);
        }
    }
}

fn uname(machine: &Machine, system: &str, hardware: &str) {
    let script = format!("#!/bin/sh\ncase $1 in -s) echo {system} ;; *) echo {hardware} ;; esac\n");
    machine.program("usr/bin/uname", script);
}

/// Returns all changes but the host's identity, which stays if a hub may know it.
fn without_identity(mut changes: Changes) -> Changes {
    changes
        .retain(|path, _| !path.starts_with("/var/lib/monsys") && !path.starts_with("/etc/monsys"));
    changes
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn an_unusable_hub_changes_nothing() {
    for (what, variables, code, message) in [
        (
            "a wrong token",
            ("MONSYS_TOKEN", "enrl_0000000000"),
            77,
            "the hub rejected the token",
        ),
        (
            "the hub down",
            ("MONSYS_HUB_URL", "https://127.0.0.1:1"),
            69,
            "Connection refused",
        ),
        (
            "a broken token",
            ("MONSYS_TOKEN", "secret"),
            64,
            "begins with `enrl_`",
        ),
        ("no token", ("MONSYS_TOKEN", ""), 64, "no token was given"),
    ] {
        let fixture = Fixture::new();
        let run = fixture.install(&[variables, ("MONSYS_WAIT", "1s")]);
        println!("{what}: {}", run.code);
        let run = run
            .expect(code)
            .expect_stderr(&["error: ", "  cause: ", "  hint:  ", message]);
        assert_eq!(
            without_identity(fixture.machine.changes()),
            fixture.before,
            "{}",
            run.stderr
        );
        // The key stays, owned by root, if a hub may know it; otherwise it is removed.
        let key = fixture.machine.path("var/lib/monsys/agent-signing.key");
        assert_eq!(key.exists(), code != 64, "{what}");
        // The same host enrols with the right token and uses one slot.
        fixture.install(&[]).expect(0);
        fixture.hub.expect_one_slot();
    }
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn another_user_than_root_changes_nothing() {
    let fixture = Fixture::new();
    let script = served(&fixture.release, &fixture.hub);
    let mut unprivileged = fixture
        .machine
        .command_of("65534:65534", &["sh", "-s", "--", "--no-start"]);
    unprivileged
        .env("MONSYS_TOKEN", &fixture.token)
        .env("MONSYS_TAGS", "a");
    let line = format!(
        "curl --proto '=https' --tlsv1.2 -fsSL {}/install.sh | sudo --preserve-env=MONSYS_TOKEN,MONSYS_TAGS sh -s -- --no-start",
        fixture.hub.url()
    );
    fixture.expect_failed(
        feed(unprivileged, &script),
        73,
        &["this is user nobody", &line],
    );

    // sudo without --preserve-env.
    let mut sudo = fixture.machine.command(&["sudo", "-n", "sh"]);
    sudo.env("MONSYS_TOKEN", &fixture.token);
    let line = format!(
        "curl --proto '=https' --tlsv1.2 -fsSL {}/install.sh | sudo --preserve-env=MONSYS_TOKEN,",
        fixture.hub.url()
    );
    let dropped = ["sudo has dropped the environment", line.as_str()];
    fixture.expect_failed(feed(sudo, &script), 64, &dropped);

    // The printed command works, for install.sh and for the program.
    let names = "--preserve-env=MONSYS_TOKEN,MONSYS_CA_FILE";
    let mut sudo = fixture.machine.command(&["sudo", "-n", names, "sh"]);
    sudo.env("MONSYS_TOKEN", &fixture.token)
        .env("MONSYS_CA_FILE", CA);
    feed(sudo, &script).expect(0);
    fixture.hub.expect_one_slot();
    let agent = "/usr/local/bin/monsys-agent";
    run(fixture
        .machine
        .command_of("65534:65534", &[agent, "install"]))
    .expect(73)
    .expect_stderr(&["sudo --preserve-env=MONSYS_TOKEN monsys-agent install"]);
    run(fixture.machine.command(&[agent, "uninstall", "--purge"])).expect(0);
}
