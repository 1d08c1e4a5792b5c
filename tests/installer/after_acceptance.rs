//! Failures after the hub has accepted the host: nothing that the agent needs is rolled back, and the next
//! run continues. No credential is left to a deleted user.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::Child;

use crate::common::{Run, TestHub, until};
use crate::machine::Machine;
use crate::release::{self, Release};
use crate::script::{CA, mirror};

const PROGRAM: &str = "/root/monsys-agent";
const AGENT: &str = "/usr/local/bin/monsys-agent";
const UNIT: &str = "etc/systemd/system/monsys-agent.service";
const TOML: &str = "etc/monsys/agent.toml";

/// A machine with the program, a hub, and one token.
struct Fixture {
    machine: Machine,
    hub: TestHub,
    token: String,
}

impl Fixture {
    fn new() -> Self {
        let release = Release::new();
        let machine = Machine::new();
        let hub = mirror(&release, &machine);
        machine.program(&PROGRAM[1..], fs::read(release::agent()).unwrap());
        let token = hub.token();
        Self {
            machine,
            hub,
            token,
        }
    }

    fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.machine.command(&[&[PROGRAM], arguments].concat());
        command
            .env("MONSYS_TOKEN", &self.token)
            .env("MONSYS_HUB_URL", self.hub.url())
            .env("MONSYS_CA_FILE", CA);
        command.spawn().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.start(arguments))
    }

    fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.machine.path(path)).is_ok()
    }

    fn has_user(&self) -> bool {
        let passwd = fs::read_to_string(self.machine.path("etc/passwd")).unwrap();
        passwd.contains("\nmonsys:")
    }

    /// Checks that the same command completes the installation, and that an uninstallation removes it.
    #[track_caller]
    fn goes_on(&self, before: &crate::machine::Changes) {
        self.run(&["install"]).expect(0);
        assert!(self.has("run/up"));
        self.hub.expect_one_slot();
        self.run(&["uninstall", "--purge"]).expect(0);
        assert_eq!(self.machine.changes(), *before);
    }
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_service_that_does_not_start_rolls_nothing_back() {
    let fixture = Fixture::new();
    let before = fixture.machine.changes();
    fixture.machine.write_file("run/broken", "");
    let run = fixture
        .run(&["install", "--output", "json"])
        .expect(74)
        .expect_stderr(&[
            "the service did not start",
            "this host is enrolled, and the installed files stay",
            "to undo everything: /usr/local/bin/monsys-agent uninstall --purge",
        ]);
    assert!(!run.stderr.contains("rolling back"), "{}", run.stderr);
    let json = run.json();
    assert_eq!(json["error"]["id"], "service-failed");
    assert_eq!(json["kept"]["enrolled"], true);
    assert_eq!(json["kept"]["service"], "not_started");
    assert_eq!(json["kept"]["binary"], AGENT);
    for path in [&AGENT[1..], UNIT, TOML, "var/lib/monsys/install.json"] {
        assert!(fixture.has(path), "{path}");
    }
    assert!(fixture.has_user());
    fs::remove_file(fixture.machine.path("run/broken")).unwrap();
    fixture.goes_on(&before);
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn an_uninstallation_removes_what_a_failed_installation_left() {
    let fixture = Fixture::new();
    fixture.machine.write_file("run/broken", "");
    let before = fixture.machine.changes();
    fixture.run(&["install"]).expect(74);
    fixture.run(&["uninstall", "--purge"]).expect(0);
    assert_eq!(fixture.machine.changes(), before);
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_failed_step_on_an_enrolled_host_does_not_stop_the_others() {
    let fixture = Fixture::new();
    let before = fixture.machine.changes();
    fixture.run(&["enrol"]).expect(0);
    fixture.machine.remount("etc/systemd/system", "ro");
    fixture.run(&["install"]).expect(73).expect_stderr(&[
        "Read-only file system",
        "this host is enrolled, and the installed files stay",
    ]);
    assert!(fixture.has(&AGENT[1..]) && fixture.has_user() && !fixture.has(UNIT));
    let toml = fs::metadata(fixture.machine.path(TOML)).unwrap();
    assert_eq!(toml.mode() & 0o7777, 0o640, "not shared with the service");
    fixture.machine.remount("etc/systemd/system", "rw");
    fixture.goes_on(&before);
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_full_disk_after_the_acceptance_rolls_nothing_back() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.machine.path("etc/monsys")).unwrap();
    let before = fixture.machine.changes();
    fixture.machine.mount_small("etc/monsys", "256k");
    fixture
        .hub
        .fault(serde_json::json!({"route": "enrol", "delay_ms": 2000, "times": 1}));
    let installing = fixture.start(&["install", "--output", "json"]);
    until("the request is about to leave", || {
        fixture.has("var/lib/monsys/agent-signing.key")
    });
    // The check of the folder for the result is over by then.
    let filler = fixture.machine.path("etc/monsys/filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[b'#'; 4096]).is_ok() {}
    drop(file);
    let run = Run::of(installing).expect(73).expect_stderr(&[
        "No space left on device",
        "the hub has accepted this host",
        "the same token",
    ]);
    assert_eq!(run.json()["kept"]["enrolled"], false);
    assert_eq!(fixture.hub.agents().len(), 1);
    assert!(
        fixture.has(&AGENT[1..]) && fixture.has(UNIT) && fixture.has_user() && !fixture.has(TOML)
    );
    assert!(
        !fixture
            .machine
            .service_calls()
            .iter()
            .any(|call| call.starts_with("start"))
    );
    fs::remove_file(filler).unwrap();
    fixture.goes_on(&before);
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn an_enrolment_during_an_uninstallation_leaves_no_credential_to_a_deleted_user() {
    let fixture = Fixture::new();
    for _ in 0..3 {
        // The enrolment is first and has the lock while the hub is slow.
        fixture.run(&["install", "--no-enrol"]).expect(0);
        fixture
            .hub
            .fault(serde_json::json!({"route": "enrol", "delay_ms": 500, "times": 1}));
        let mut enrolling = fixture.start(&["enrol"]);
        until("the request is about to leave", || {
            fixture.has("var/lib/monsys/agent-signing.key")
        });
        assert!(
            enrolling.try_wait().unwrap().is_none(),
            "they do not overlap"
        );
        fixture
            .run(&["uninstall", "--purge"])
            .expect(0)
            .expect_stderr(&["is at work"]);
        Run::of(enrolling).expect(0);
        assert!(
            !fixture.has("var/lib/monsys") && !fixture.has("etc/monsys") && !fixture.has_user()
        );

        // The uninstallation is first and has the lock while the user is removed.
        fixture.run(&["install", "--no-enrol"]).expect(0);
        let userdel = "/usr/sbin/userdel";
        let real = fs::read(fixture.machine.path(&userdel[1..])).unwrap();
        fixture.machine.program("usr/sbin/userdel.real", &real);
        fixture.machine.program(
            &userdel[1..],
            "#!/bin/sh\n: >/run/at-userdel\nwhile ! test -e /run/go-on; do :; done\nexec /usr/sbin/userdel.real \"$@\"\n",
        );
        let uninstalling = fixture.start(&["uninstall", "--purge"]);
        until("the user is being removed", || {
            fixture.has("run/at-userdel")
        });
        let enrolling = fixture.start(&["enrol"]);
        until("the enrolment waits for the lock", || {
            let lock = fs::metadata(fixture.machine.path("var/lib/monsys/lock")).unwrap();
            has_open(enrolling.id(), lock.ino())
        });
        fixture.machine.write_file("run/go-on", "");
        Run::of(uninstalling).expect(0);
        Run::of(enrolling).expect(0).expect_stderr(&["is at work"]);
        for path in ["var/lib/monsys", TOML, "var/lib/monsys/agent-signing.key"] {
            let there = fs::metadata(fixture.machine.path(path)).unwrap();
            assert_eq!(
                (there.uid(), there.gid(), there.mode() & 0o077),
                (0, 0, 0),
                "{path}"
            );
        }
        fixture.run(&["enrol", "--tag", "proof"]).expect(0);
        fixture.machine.program(&userdel[1..], &real);
        for path in ["run/go-on", "run/at-userdel", "usr/sbin/userdel.real"] {
            fs::remove_file(fixture.machine.path(path)).unwrap();
        }
        fixture.run(&["unenrol"]).expect(0);
        fixture.run(&["uninstall", "--purge"]).expect(0);
    }
}

/// Returns whether the process has opened the file with this inode.
fn has_open(process: u32, inode: u64) -> bool {
    let open = fs::read_dir(format!("/proc/{process}/fd"))
        .into_iter()
        .flatten();
    open.flatten()
        .any(|file| fs::metadata(file.path()).is_ok_and(|file| file.ino() == inode))
}
