//! Purging by the deb and by the Ansible role: every file of the agent is removed, and nothing that is
//! mounted or linked there.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::common::Run;
use crate::machine::{Machine, run};

const FORGET: &str = include_str!("../../ansible/roles/monsys_agent/files/forget.sh");
const PURGE: &str = include_str!("../../ansible/roles/monsys_agent/files/purge.sh");
const POSTRM: &str = include_str!("../../packaging/deb/postrm");
/// A mount point with characters that are special in patterns.
const ODD: &str = "var/lib/monsys/deep/er/back up*[1]\n\\2";

/// The program that purges.
#[derive(Clone, Copy, Debug)]
enum By {
    Deb,
    Role,
    RoleWithBusyBox,
}

const ALL: [By; 3] = [By::Deb, By::Role, By::RoleWithBusyBox];

impl By {
    fn run(self, machine: &Machine) -> Run {
        run(self.command(machine, "yes"))
    }

    fn command(self, machine: &Machine, is_real: &str) -> Command {
        let mut command = match self {
            Self::RoleWithBusyBox => {
                let install = "mkdir -p /srv/bin && /bin/busybox --install -s /srv/bin";
                run(machine.command(&["sh", "-c", install])).expect(0);
                machine.command(&["env", "PATH=/srv/bin", "sh", "-c"])
            }
            _ => machine.command(&["dash", "-c"]),
        };
        match self {
            Self::Deb => command.args([POSTRM, "postrm", "purge"]),
            _ => command.args([&format!("{FORGET}\n{PURGE}"), "purge.sh", is_real]),
        };
        if !matches!(self, Self::Deb) {
            command.args(["/etc/monsys", "/var/lib/monsys"]);
        }
        command
    }
}

/// Makes a machine with files of the agent.
fn machine() -> Machine {
    let machine = Machine::new();
    // Debian's helper would read the units of this machine.
    machine.remove_program("deb-systemd-helper");
    machine.mount_small("var/lib", "10m");
    machine.write_file("etc/monsys/agent.toml", "agent_token = \"agt_x\"\n");
    machine.write_file("var/lib/monsys/agent-signing.key", [7; 32]);
    machine.write_file("var/lib/monsys/mimir/.monsys-x.tmp", "");
    machine.write_file("var/lib/theirs/sub/data", "theirs");
    machine
}

fn mount(machine: &Machine, arguments: &[&str]) {
    run(machine.command(&[&["mount"], arguments].concat())).expect(0);
}

fn is_theirs(machine: &Machine, path: &str) -> bool {
    fs::read_to_string(machine.path(path)).is_ok_and(|text| text == "theirs")
}

#[test]
fn the_deb_and_the_role_purge_with_the_same_function() {
    let (_, function) = FORGET.split_once("# forget FOLDER").unwrap();
    assert!(POSTRM.contains(function), "{POSTRM}");
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_purge_removes_every_agent_file() {
    for by in ALL {
        let machine = machine();
        machine.write_file("var/lib/monsys/.hidden/..odd", "");
        let key = machine.path("var/lib/monsys/agent-signing.key");
        fs::hard_link(key, machine.path("var/lib/theirs/hard")).unwrap();
        symlink("/var/lib/theirs", machine.path("var/lib/monsys/link")).unwrap();
        symlink("../theirs/sub/data", machine.path("var/lib/monsys/file")).unwrap();
        if !matches!(by, By::Deb) {
            let dry = run(by.command(&machine, "")).expect(0);
            assert!(dry.stdout.contains("/agent-signing.key\n"), "{dry:?}");
            assert!(machine.path("etc/monsys/agent.toml").exists());
        }
        let purged = by.run(&machine).expect(0);
        assert_eq!(purged.stderr, "", "{by:?}");
        for path in ["etc/monsys", "var/lib/monsys"] {
            assert!(!machine.path(path).exists(), "{by:?}: {path}");
        }
        assert!(is_theirs(&machine, "var/lib/theirs/sub/data"), "{by:?}");
        assert_eq!(
            fs::read(machine.path("var/lib/theirs/hard")).unwrap(),
            [7; 32]
        );
        let again = by.run(&machine).expect(0);
        assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("", ""));
    }
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_purge_does_not_change_what_is_mounted_below() {
    for by in ALL {
        let machine = machine();
        // A folder of the same file system, one of another file system, and a single file.
        fs::create_dir_all(machine.path(ODD)).unwrap();
        mount(&machine, &["--bind", "/var/lib/theirs", &format!("/{ODD}")]);
        machine.write_file("var/lib/monsys/deep/er/back upX1\n\\2/ours", "");
        fs::create_dir(machine.path("var/lib/monsys/disk")).unwrap();
        mount(&machine, &["-t", "tmpfs", "tmpfs", "/var/lib/monsys/disk"]);
        machine.write_file("var/lib/monsys/disk/data", "theirs");
        machine.write_file("etc/monsys/hub-ca.pem", "");
        let (from, to) = ("/var/lib/theirs/sub/data", "/etc/monsys/hub-ca.pem");
        mount(&machine, &["--bind", from, to]);

        let purged = by.run(&machine).expect(0);
        for path in [
            "var/lib/theirs/sub/data",
            "var/lib/monsys/disk/data",
            "etc/monsys/hub-ca.pem",
            &format!("{ODD}/sub/data"),
        ] {
            assert!(is_theirs(&machine, path), "{by:?}: {path}");
            let point = path.trim_end_matches("/data").trim_end_matches("/sub");
            assert!(
                path.starts_with("var/lib/theirs")
                    || purged
                        .stderr
                        .contains(&format!("/{point} is a mount point")),
                "{by:?}: {}",
                purged.stderr
            );
        }
        for path in [
            "etc/monsys/agent.toml",
            "var/lib/monsys/agent-signing.key",
            "var/lib/monsys/mimir",
            "var/lib/monsys/deep/er/back upX1\n\\2",
        ] {
            assert!(!machine.path(path).exists(), "{by:?}: {path}");
        }
        let again = by.run(&machine).expect(0);
        assert_eq!(again.stdout, "", "{by:?}: a second run prints nothing");
    }
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_mounted_agent_folder_is_emptied_and_a_link_is_removed() {
    for by in ALL {
        let machine = machine();
        let (from, to) = ("/var/lib/monsys/mimir", "/var/lib/monsys");
        machine.write_file("var/lib/monsys/mimir/agent-id", "");
        mount(&machine, &["--bind", from, to]);
        fs::rename(machine.path("etc/monsys"), machine.path("etc/ours")).unwrap();
        symlink("ours", machine.path("etc/monsys")).unwrap();
        let purged = by.run(&machine).expect(0);
        purged.expect_stderr(&[
            "/var/lib/monsys is a mount point",
            "/etc/monsys leads to ours, which stays",
        ]);
        let entries = fs::read_dir(machine.path("var/lib/monsys")).unwrap();
        assert_eq!(entries.count(), 0, "{by:?}");
        assert!(!machine.path("etc/monsys").is_symlink(), "{by:?}");
        assert!(machine.path("etc/ours/agent.toml").exists(), "{by:?}");
    }
}
