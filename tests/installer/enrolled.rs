//! Once the hub has accepted a host, nothing that its agent needs is taken back, whatever fails; the next
//! run goes on from there. And no credential is left to a user who is gone.

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
struct Scene {
    machine: Machine,
    hub: TestHub,
    token: String,
}

impl Scene {
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

    /// The same command ends what was begun, and an uninstallation takes all of it away.
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
fn a_service_that_does_not_start_takes_nothing_back() {
    if !crate::can_make_machines() {
        return;
    }
    let scene = Scene::new();
    let before = scene.machine.changes();
    scene.machine.lay("run/broken", "");
    let run = scene
        .run(&["install", "--output", "json"])
        .expect(74)
        .says(&[
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
        assert!(scene.has(path), "{path}");
    }
    assert!(scene.has_user());
    fs::remove_file(scene.machine.path("run/broken")).unwrap();
    scene.goes_on(&before);
}

#[test]
fn what_it_left_is_taken_back_by_an_uninstallation_at_once() {
    if !crate::can_make_machines() {
        return;
    }
    let scene = Scene::new();
    scene.machine.lay("run/broken", "");
    let before = scene.machine.changes();
    scene.run(&["install"]).expect(74);
    scene.run(&["uninstall", "--purge"]).expect(0);
    assert_eq!(scene.machine.changes(), before);
}

#[test]
fn a_step_that_fails_on_an_enrolled_host_stops_no_other_one() {
    if !crate::can_make_machines() {
        return;
    }
    let scene = Scene::new();
    let before = scene.machine.changes();
    scene.run(&["enrol"]).expect(0);
    scene.machine.remount("etc/systemd/system", "ro");
    scene.run(&["install"]).expect(73).says(&[
        "Read-only file system",
        "this host is enrolled, and the installed files stay",
    ]);
    assert!(scene.has(&AGENT[1..]) && scene.has_user() && !scene.has(UNIT));
    let toml = fs::metadata(scene.machine.path(TOML)).unwrap();
    assert_eq!(toml.mode() & 0o7777, 0o640, "not shared with the service");
    scene.machine.remount("etc/systemd/system", "rw");
    scene.goes_on(&before);
}

#[test]
fn a_disk_that_is_full_after_the_acceptance_takes_nothing_back() {
    if !crate::can_make_machines() {
        return;
    }
    let scene = Scene::new();
    fs::create_dir_all(scene.machine.path("etc/monsys")).unwrap();
    let before = scene.machine.changes();
    scene.machine.small("etc/monsys", "256k");
    scene
        .hub
        .fault(serde_json::json!({"route": "enrol", "delay_ms": 2000, "times": 1}));
    let installing = scene.start(&["install", "--output", "json"]);
    until("the request is about to leave", || {
        scene.has("var/lib/monsys/agent-signing.key")
    });
    // By then it is proved that the folder takes the result.
    let filler = scene.machine.path("etc/monsys/filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[b'#'; 4096]).is_ok() {}
    drop(file);
    let run = Run::of(installing).expect(73).says(&[
        "No space left on device",
        "the hub has accepted this host",
        "the same token",
    ]);
    assert_eq!(run.json()["kept"]["enrolled"], false);
    assert_eq!(scene.hub.agents().len(), 1);
    assert!(scene.has(&AGENT[1..]) && scene.has(UNIT) && scene.has_user() && !scene.has(TOML));
    assert!(
        !scene
            .machine
            .asked()
            .iter()
            .any(|call| call.starts_with("start"))
    );
    fs::remove_file(filler).unwrap();
    scene.goes_on(&before);
}

#[test]
fn an_enrolment_beside_an_uninstallation_leaves_no_credential_to_a_deleted_user() {
    if !crate::can_make_machines() {
        return;
    }
    let scene = Scene::new();
    for _ in 0..3 {
        // The enrolment is first, and has the lock while the hub is slow.
        scene.run(&["install", "--no-enrol"]).expect(0);
        scene
            .hub
            .fault(serde_json::json!({"route": "enrol", "delay_ms": 500, "times": 1}));
        let mut enrolling = scene.start(&["enrol"]);
        until("the request is about to leave", || {
            scene.has("var/lib/monsys/agent-signing.key")
        });
        assert!(
            enrolling.try_wait().unwrap().is_none(),
            "they do not overlap"
        );
        scene
            .run(&["uninstall", "--purge"])
            .expect(0)
            .says(&["is at work"]);
        Run::of(enrolling).expect(0);
        assert!(!scene.has("var/lib/monsys") && !scene.has("etc/monsys") && !scene.has_user());

        // The uninstallation is first, and has the lock while the user is being removed.
        scene.run(&["install", "--no-enrol"]).expect(0);
        let userdel = "/usr/sbin/userdel";
        let real = fs::read(scene.machine.path(&userdel[1..])).unwrap();
        scene.machine.program("usr/sbin/userdel.real", &real);
        scene.machine.program(
            &userdel[1..],
            "#!/bin/sh\n: >/run/at-userdel\nwhile ! test -e /run/go-on; do :; done\nexec /usr/sbin/userdel.real \"$@\"\n",
        );
        let uninstalling = scene.start(&["uninstall", "--purge"]);
        until("the user is being removed", || scene.has("run/at-userdel"));
        let enrolling = scene.start(&["enrol"]);
        until("the enrolment waits for the lock", || {
            let lock = fs::metadata(scene.machine.path("var/lib/monsys/lock")).unwrap();
            has_open(enrolling.id(), lock.ino())
        });
        scene.machine.lay("run/go-on", "");
        Run::of(uninstalling).expect(0);
        Run::of(enrolling).expect(0).says(&["is at work"]);
        for path in ["var/lib/monsys", TOML, "var/lib/monsys/agent-signing.key"] {
            let there = fs::metadata(scene.machine.path(path)).unwrap();
            assert_eq!(
                (there.uid(), there.gid(), there.mode() & 0o077),
                (0, 0, 0),
                "{path}"
            );
        }
        scene.run(&["enrol", "--tag", "proof"]).expect(0);
        scene.machine.program(&userdel[1..], &real);
        for path in ["run/go-on", "run/at-userdel", "usr/sbin/userdel.real"] {
            fs::remove_file(scene.machine.path(path)).unwrap();
        }
        scene.run(&["unenrol"]).expect(0);
        scene.run(&["uninstall", "--purge"]).expect(0);
    }
}

/// Whether the process has opened the file of this number.
fn has_open(process: u32, inode: u64) -> bool {
    let open = fs::read_dir(format!("/proc/{process}/fd"))
        .into_iter()
        .flatten();
    open.flatten()
        .any(|file| fs::metadata(file.path()).is_ok_and(|file| file.ino() == inode))
}
