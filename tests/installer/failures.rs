//! Each thing that can go wrong: install.sh ends non-zero, says why and how to fix it, and leaves
//! the machine as it was.

use serde_json::{Value, json};

use crate::common::{Run, TestHub};
use crate::machine::{Changes, Machine, run};
use crate::release::{Release, VERSION, binary};
use crate::script::{CA, feed, leave_busybox_alone, mirror, piped, plain_mirror, served};

/// A machine, its mirror, and what the mirror serves.
pub(crate) struct Scene {
    pub(crate) machine: Machine,
    pub(crate) hub: TestHub,
    pub(crate) release: Release,
    pub(crate) before: Changes,
    pub(crate) token: String,
}

impl Scene {
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

    /// Runs install.sh as the hub serves it, and expects a failure that changes nothing.
    #[track_caller]
    pub(crate) fn fails(&self, variables: &[(&str, &str)], code: i32, says: &[&str]) {
        let run = self.install(variables);
        self.has_failed(run, code, says);
    }

    pub(crate) fn install(&self, variables: &[(&str, &str)]) -> Run {
        let script = served(&self.release, &self.hub);
        let mut all = vec![("MONSYS_TOKEN", self.token.as_str())];
        all.extend(variables);
        piped(&self.machine, &["sh"], &script, &all)
    }

    #[track_caller]
    pub(crate) fn has_failed(&self, run: Run, code: i32, says: &[&str]) {
        let run = run
            .expect(code)
            .says(&["error: ", "  cause: ", "  hint:  "]);
        run.says(says);
        assert_eq!(self.machine.changes(), self.before, "something is left");
        assert!(self.hub.agents().is_empty());
        self.machine
            .has_nowhere(self.token.strip_prefix("enrl_").unwrap());
    }
}

#[test]
fn the_download() {
    if !crate::can_make_machines() {
        return;
    }
    let fault = |extra: Value| {
        let mut fault = json!({"route": "dist", "times": 20});
        let extra = extra.as_object().unwrap().clone();
        fault.as_object_mut().unwrap().extend(extra);
        fault
    };
    for downloader in ["curl", "wget", "busybox"] {
        for (what, code, says) in [
            (json!({"status": 404}), 69, "404"),
            (json!({"reset": "before"}), 69, "could not be downloaded"),
            (json!({"reset": "after"}), 69, "could not be downloaded"),
            (json!({"truncate_at": 4096}), 69, "could not be downloaded"),
            (
                json!({"body": "<html>sign in</html>"}),
                76,
                "its SHA-256 is",
            ),
        ] {
            let scene = Scene::new();
            let plain = plain_mirror(&scene.release);
            let (source, url) = match downloader {
                "busybox" => {
                    leave_busybox_alone(&scene.machine);
                    (&plain, format!("{}/dist", plain.url()))
                }
                _ => (&scene.hub, String::new()),
            };
            if downloader == "wget" {
                scene.machine.without("curl");
            }
            source.fault(fault(what.clone()));
            let scene = Scene {
                before: scene.machine.changes(),
                ..scene
            };
            let run = scene.install(&[("MONSYS_DOWNLOAD_URL", &url)]);
            // BusyBox's wget takes a body that ends too early for whole; the checksum does not.
            let is_half = downloader == "busybox" && run.code == 76;
            let (code, says) = if is_half {
                (76, "its SHA-256 is")
            } else {
                (code, says)
            };
            println!("{downloader}, {what}: {}", run.code);
            scene.has_failed(run, code, &[says]);
        }
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn the_machine() {
    type Spoil = fn(&Machine);
    if !crate::can_make_machines() {
        return;
    }
    let cases: [(&str, Spoil, i32, &[&str]); 12] = [
        (
            "no downloader",
            |machine| {
                machine.without("curl");
                machine.without("wget");
            },
            69,
            &["neither curl nor wget", "MONSYS_DOWNLOAD_URL=file://"],
        ),
        (
            "no checksum tool",
            |machine| {
                for tool in ["sha256sum", "shasum", "openssl", "busybox"] {
                    machine.without(tool);
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
            "no room to download",
            |machine| machine.small("tmp", "1m"),
            69,
            &["could not be downloaded", "the disk space"],
        ),
        (
            "no folder to run from",
            |machine| {
                for folder in ["tmp", "var/tmp", "run", "opt"] {
                    machine.remount(folder, "noexec");
                }
            },
            73,
            &["no folder allows the program to run", "TMPDIR=FOLDER"],
        ),
        (
            "no room for the program",
            |machine| machine.small("usr/local/bin", "1m"),
            73,
            &["No space left", "/usr/local/bin/monsys-agent", "make room"],
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
                machine.lay("etc/systemd/system/monsys-agent.service/x", "");
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
                machine.lay("run/broken", "");
            },
            74,
            &[
                "Job for monsys-agent.service failed",
                "said in the journal",
                "journalctl -u",
            ],
        ),
    ];
    for (what, spoil, code, says) in cases {
        let mut scene = Scene::new();
        spoil(&scene.machine);
        scene.before = scene.machine.changes();
        let run = scene.install(&[]);
        println!("{what}: {}", run.code);
        if code == 74 {
            // The hub has accepted the host by then: all stays.
            run.expect(74).says(says);
            scene.hub.expect_one_slot();
            assert!(scene.machine.path("usr/local/bin/monsys-agent").exists());
            std::fs::remove_file(scene.machine.path("run/broken")).unwrap();
            scene.install(&[]).expect(0);
            scene.hub.expect_one_slot();
        } else {
            scene.has_failed(run, code, says);
        }
    }
}

fn uname(machine: &Machine, system: &str, hardware: &str) {
    let script = format!("#!/bin/sh\ncase $1 in -s) echo {system} ;; *) echo {hardware} ;; esac\n");
    machine.program("usr/bin/uname", script);
}

/// All but what makes this host itself: that stays once a hub may have seen it.
fn without_identity(mut changes: Changes) -> Changes {
    changes
        .retain(|path, _| !path.starts_with("/var/lib/monsys") && !path.starts_with("/etc/monsys"));
    changes
}

#[test]
fn the_hub() {
    if !crate::can_make_machines() {
        return;
    }
    for (what, variables, code, says) in [
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
        let scene = Scene::new();
        let run = scene.install(&[variables, ("MONSYS_WAIT", "1s")]);
        println!("{what}: {}", run.code);
        let run = run
            .expect(code)
            .says(&["error: ", "  cause: ", "  hint:  ", says]);
        assert_eq!(
            without_identity(scene.machine.changes()),
            scene.before,
            "{}",
            run.stderr
        );
        // The key stays where a hub may have seen it, root's again; else there is nothing.
        let key = scene.machine.path("var/lib/monsys/agent-signing.key");
        assert_eq!(key.exists(), code != 64, "{what}");
        // The same host, with the right token: one slot.
        scene.install(&[]).expect(0);
        scene.hub.expect_one_slot();
    }
}

#[test]
fn who_runs_it() {
    if !crate::can_make_machines() {
        return;
    }
    let scene = Scene::new();
    let script = served(&scene.release, &scene.hub);
    let mut nobody = scene
        .machine
        .command_of("65534:65534", &["sh", "-s", "--", "--no-start"]);
    nobody
        .env("MONSYS_TOKEN", &scene.token)
        .env("MONSYS_TAGS", "a");
    let line = format!(
        "curl --proto '=https' --tlsv1.2 -fsSL {}/install.sh | sudo --preserve-env=MONSYS_TOKEN,MONSYS_TAGS sh -s -- --no-start",
        scene.hub.url()
    );
    scene.has_failed(feed(nobody, &script), 73, &["this is user nobody", &line]);

    // With a sudo that was not told what to keep.
    let mut sudo = scene.machine.command(&["sudo", "-n", "sh"]);
    sudo.env("MONSYS_TOKEN", &scene.token);
    let line = format!(
        "curl --proto '=https' --tlsv1.2 -fsSL {}/install.sh | sudo --preserve-env=MONSYS_TOKEN,",
        scene.hub.url()
    );
    let dropped = ["sudo has dropped the environment", line.as_str()];
    scene.has_failed(feed(sudo, &script), 64, &dropped);

    // The line that it gives works, and so it does for the program itself.
    let names = "--preserve-env=MONSYS_TOKEN,MONSYS_CA_FILE";
    let mut sudo = scene.machine.command(&["sudo", "-n", names, "sh"]);
    sudo.env("MONSYS_TOKEN", &scene.token)
        .env("MONSYS_CA_FILE", CA);
    feed(sudo, &script).expect(0);
    scene.hub.expect_one_slot();
    let agent = "/usr/local/bin/monsys-agent";
    run(scene.machine.command_of("65534:65534", &[agent, "install"]))
        .expect(73)
        .says(&["sudo --preserve-env=MONSYS_TOKEN monsys-agent install"]);
    run(scene.machine.command(&[agent, "uninstall", "--purge"])).expect(0);
}

#[test]
fn what_was_released() {
    if !crate::can_make_machines() {
        return;
    }
    // Straight from the repository: it knows no release.
    let scene = Scene::new();
    let raw = include_str!("../../packaging/install.sh");
    let variables = [("MONSYS_TOKEN", scene.token.as_str())];
    let run = piped(&scene.machine, &["sh"], raw, &variables);
    scene.has_failed(run, 69, &["no checksum", "MONSYS_SHA256"]);
    scene.fails(
        &[("MONSYS_VERSION", "9.9.9")],
        69,
        &["no checksum for monsys-agent-9.9.9-"],
    );
    scene.fails(
        &[("MONSYS_SHA256", &"0".repeat(64))],
        76,
        &["its SHA-256 is"],
    );
    scene.fails(
        &[("MONSYS_VERIFY", "strict")],
        69,
        &["needs minisign", "the key in this script: none"],
    );
    for value in ["Strict", "STRICT", "yes", "1", "true", "off", " strict"] {
        scene.fails(
            &[("MONSYS_VERIFY", value)],
            64,
            &["is not a valid value", "the values are strict and empty"],
        );
    }
    scene.fails(
        &[("MONSYS_DOWNLOAD_URL", "https://user:pass@127.0.0.1:1")],
        69,
        &["from https://127.0.0.1:1"],
    );
    let empty = [("MONSYS_DOWNLOAD_URL", "file:///srv/nothing")];
    scene.fails(&empty, 69, &["No such file"]);

    // Another version, by its checksum.
    let old = format!("monsys-agent-0.0.9-linux-{}", std::env::consts::ARCH);
    std::fs::copy(scene.release.path(&binary()), scene.release.path(&old)).unwrap();
    let sums = std::fs::read_to_string(scene.release.path("SHA256SUMS")).unwrap();
    let sum = sums.split(' ').next().unwrap().to_uppercase();
    scene
        .install(&[("MONSYS_VERSION", "v0.0.9"), ("MONSYS_SHA256", &sum)])
        .expect(0)
        .says(&["Downloading monsys-agent 0.0.9"]);

    // The file of the release, which does not run here.
    let broken = Release::new();
    std::fs::write(broken.path(&binary()), "\x7fELF of another machine").unwrap();
    let output = std::process::Command::new("sha256sum")
        .arg(broken.path(&binary()))
        .output()
        .unwrap();
    let sum = String::from_utf8(output.stdout).unwrap()[..64].to_owned();
    let scene = Scene::of(broken);
    scene.fails(
        &[("MONSYS_SHA256", &sum)],
        74,
        &["does not run on this host"],
    );
}

#[test]
fn the_signature() {
    if !crate::can_make_machines() {
        return;
    }
    let strict = [("MONSYS_VERIFY", "strict")];
    let scene = Scene::of(Release::signed());
    // Another key's signature, none at all, and sums that were changed after signing.
    let other = Release::signed();
    let signature = scene.release.path("SHA256SUMS.minisig");
    let good = std::fs::read(&signature).unwrap();
    std::fs::copy(other.path("SHA256SUMS.minisig"), &signature).unwrap();
    scene.fails(&[], 76, &["the signature of", "is wrong"]);
    std::fs::remove_file(&signature).unwrap();
    scene.fails(&[], 69, &["SHA256SUMS.minisig could not be downloaded"]);
    std::fs::write(&signature, &good).unwrap();
    let sums = scene.release.path("SHA256SUMS");
    let text = std::fs::read_to_string(&sums).unwrap();
    std::fs::write(&sums, text.replace(VERSION, "9.9.9")).unwrap();
    scene.fails(&[], 76, &["is wrong"]);
    std::fs::write(&sums, &text).unwrap();

    // No tool: the checksum alone decides, unless more is demanded.
    let kept = std::fs::read(scene.machine.path("usr/bin/minisign")).unwrap();
    scene.machine.without("minisign");
    let mut scene = scene;
    scene.before = scene.machine.changes();
    scene.fails(
        &strict,
        69,
        &["MONSYS_VERIFY=strict needs minisign", "install minisign"],
    );
    scene.install(&[]).expect(0);
    scene.machine.program("usr/bin/minisign", kept);
    scene.install(&strict).expect(0);
    scene.hub.expect_one_slot();
}
