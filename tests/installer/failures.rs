//! Failures of install.sh: it exits non-zero, prints the cause and a hint, and changes nothing.

use serde_json::{Value, json};

use crate::common::{Run, TestHub};
use crate::machine::{Changes, Machine, run};
use crate::release::{Release, VERSION, binary};
use crate::script::{
    CA, feed, http_mirror, mirror, only_busybox_wget, only_old_busybox_wget, piped, served,
};

/// A machine, a mirror, and the release on the mirror.
pub(crate) struct Fixture {
    pub(crate) machine: Machine,
    pub(crate) hub: TestHub,
    pub(crate) release: Release,
    pub(crate) before: Changes,
    pub(crate) token: String,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::of(Release::new())
    }

    pub(crate) fn of(release: Release) -> Self {
        let machine = Machine::new();
        let hub = mirror(&release, &machine);
        let token = hub.token();
        Self {
            before: machine.changes(),
            machine,
            hub,
            release,
            token,
        }
    }

    /// Runs install.sh from the hub, and expects a failure that changes nothing.
    #[track_caller]
    pub(crate) fn expect_failure(&self, variables: &[(&str, &str)], code: i32, message: &[&str]) {
        let run = self.install(variables);
        self.expect_failed(run, code, message);
    }

    pub(crate) fn install(&self, variables: &[(&str, &str)]) -> Run {
        let script = served(&self.release, &self.hub);
        let mut all = vec![("MONSYS_TOKEN", self.token.as_str())];
        all.extend(variables);
        piped(&self.machine, &["sh"], &script, &all)
    }

    #[track_caller]
    pub(crate) fn expect_failed(&self, run: Run, code: i32, message: &[&str]) {
        let run = run
            .expect(code)
            .expect_stderr(&["error: ", "  cause: ", "  hint:  "]);
        run.expect_stderr(message);
        assert_eq!(self.machine.changes(), self.before, "something was changed");
        assert!(self.hub.agents().is_empty());
        self.machine
            .expect_no_file_with(self.token.strip_prefix("enrl_").unwrap());
    }
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_failed_download_changes_nothing() {
    let fault = |extra: Value| {
        let mut fault = json!({"route": "dist", "times": 20});
        let extra = extra.as_object().unwrap().clone();
        fault.as_object_mut().unwrap().extend(extra);
        fault
    };
    for downloader in ["curl", "wget", "busybox", "old busybox"] {
        let mut cases = vec![
            (json!({"status": 404}), 69, "404"),
            (json!({"reset": "before"}), 69, "could not be downloaded"),
            (json!({"reset": "after"}), 69, "could not be downloaded"),
            (
                json!({"body": "<html>sign in</html>"}),
                76,
                "its SHA-256 is",
            ),
        ];
        let short = json!({"truncate_at": 4096});
        match downloader {
            // Its version decides whether it accepts a body that ends too early.
            "busybox" => {}
            "old busybox" => cases.push((short, 76, "its SHA-256 is")),
            _ => cases.push((short, 69, "could not be downloaded")),
        }
        for (what, code, message) in cases {
            let fixture = Fixture::new();
            let plain = http_mirror(&fixture.release);
            let (source, url) = match downloader {
                "busybox" => {
                    only_busybox_wget(&fixture.machine);
                    (&plain, format!("{}/dist", plain.url()))
                }
                "old busybox" => {
                    only_old_busybox_wget(&fixture.machine);
                    (&plain, format!("{}/dist", plain.url()))
                }
                _ => (&fixture.hub, String::new()),
            };
            if downloader == "wget" {
                fixture.machine.remove_program("curl");
            }
            source.fault(fault(what.clone()));
            let fixture = Fixture {
                before: fixture.machine.changes(),
                ..fixture
            };
            let run = fixture.install(&[("MONSYS_DOWNLOAD_URL", &url)]);
            println!("{downloader}, {what}: {}", run.code);
            fixture.expect_failed(run, code, &[message]);
        }
    }
}

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

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_wrong_release_changes_nothing() {
    // install.sh of the repository has no release filled in.
    let fixture = Fixture::new();
    let raw = include_str!("../../packaging/install.sh");
    let variables = [("MONSYS_TOKEN", fixture.token.as_str())];
    let run = piped(&fixture.machine, &["sh"], raw, &variables);
    fixture.expect_failed(run, 69, &["no checksum", "MONSYS_SHA256"]);
    fixture.expect_failure(
        &[("MONSYS_VERSION", "9.9.9")],
        69,
        &["no checksum for monsys-agent-9.9.9-"],
    );
    fixture.expect_failure(
        &[("MONSYS_SHA256", &"0".repeat(64))],
        76,
        &["its SHA-256 is"],
    );
    fixture.expect_failure(
        &[("MONSYS_VERIFY", "strict")],
        69,
        &["needs minisign", "the key in this script: none"],
    );
    for value in ["Strict", "STRICT", "yes", "1", "true", "off", " strict"] {
        fixture.expect_failure(
            &[("MONSYS_VERIFY", value)],
            64,
            &["is not a valid value", "the values are strict and empty"],
        );
    }
    fixture.expect_failure(
        &[("MONSYS_DOWNLOAD_URL", "https://user:pass@127.0.0.1:1")],
        69,
        &["from https://127.0.0.1:1"],
    );
    let empty = [("MONSYS_DOWNLOAD_URL", "file:///srv/nothing")];
    fixture.expect_failure(&empty, 69, &["No such file"]);

    // Another version with its checksum.
    let old = format!("monsys-agent-0.0.9-linux-{}", std::env::consts::ARCH);
    std::fs::copy(fixture.release.path(&binary()), fixture.release.path(&old)).unwrap();
    let sums = std::fs::read_to_string(fixture.release.path("SHA256SUMS")).unwrap();
    let sum = sums.split(' ').next().unwrap().to_uppercase();
    fixture
        .install(&[("MONSYS_VERSION", "v0.0.9"), ("MONSYS_SHA256", &sum)])
        .expect(0)
        .expect_stderr(&["Downloading monsys-agent 0.0.9"]);

    // A release file that cannot run on this machine.
    let broken = Release::new();
    std::fs::write(broken.path(&binary()), "\x7fELF of another machine").unwrap();
    let output = std::process::Command::new("sha256sum")
        .arg(broken.path(&binary()))
        .output()
        .unwrap();
    let sum = String::from_utf8(output.stdout).unwrap()[..64].to_owned();
    let fixture = Fixture::of(broken);
    fixture.expect_failure(
        &[("MONSYS_SHA256", &sum)],
        74,
        &["does not run on this host"],
    );
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_wrong_or_missing_signature_changes_nothing() {
    let strict = [("MONSYS_VERIFY", "strict")];
    let fixture = Fixture::of(Release::signed());
    // A signature by another key, a missing signature, and checksums changed after signing.
    let other = Release::signed();
    let signature = fixture.release.path("SHA256SUMS.minisig");
    let good = std::fs::read(&signature).unwrap();
    std::fs::copy(other.path("SHA256SUMS.minisig"), &signature).unwrap();
    fixture.expect_failure(&[], 76, &["the signature of", "is wrong"]);
    std::fs::remove_file(&signature).unwrap();
    fixture.expect_failure(&[], 69, &["SHA256SUMS.minisig could not be downloaded"]);
    std::fs::write(&signature, &good).unwrap();
    let sums = fixture.release.path("SHA256SUMS");
    let text = std::fs::read_to_string(&sums).unwrap();
    std::fs::write(&sums, text.replace(VERSION, "9.9.9")).unwrap();
    fixture.expect_failure(&[], 76, &["is wrong"]);
    std::fs::write(&sums, &text).unwrap();

    // Without minisign, the checksum decides, unless MONSYS_VERIFY=strict.
    let minisign = std::fs::read(fixture.machine.path("usr/bin/minisign")).unwrap();
    fixture.machine.remove_program("minisign");
    let mut fixture = fixture;
    fixture.before = fixture.machine.changes();
    fixture.expect_failure(
        &strict,
        69,
        &["MONSYS_VERIFY=strict needs minisign", "install minisign"],
    );
    fixture.install(&[]).expect(0);
    fixture.machine.program("usr/bin/minisign", minisign);
    fixture.install(&strict).expect(0);
    fixture.hub.expect_one_slot();
}
