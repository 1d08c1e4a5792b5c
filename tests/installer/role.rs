//! The scripts of the Ansible role that root runs on a host, in different shells and with different tools.

mod fetch;
mod stage;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::process::Command;

use crate::common::Run;
use crate::machine::{Machine, run};

/// A user other than root, and a group other than root's.
const NOBODY: u32 = 65534;
const USERS: u32 = 100;
/// The list that the role and `monsys-agent install` share.
const BIN_FOLDERS: &str = include_str!("../../ansible/roles/monsys_agent/files/bin_folders");

/// Runs a script as the role does: after the functions that it needs.
fn role(machine: &Machine, is_busybox: bool, name: &str, arguments: &[&str]) -> Run {
    let mut command = prepare(machine, is_busybox, name);
    command.args(arguments);
    run(command)
}

fn prepare(machine: &Machine, is_busybox: bool, name: &str) -> Command {
    let files = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/ansible/roles/monsys_agent/files"
    );
    let read = |name: &str| fs::read_to_string(format!("{files}/{name}")).unwrap();
    let text = format!("{}\n{}", read("only_root.sh"), read(name));
    let mut command = if is_busybox {
        let install = "mkdir -p /srv/bin && /bin/busybox --install -s /srv/bin";
        run(machine.command(&["sh", "-c", install])).expect(0);
        machine.command(&["env", "PATH=/srv/bin", "sh", "-c"])
    } else {
        machine.command(&["dash", "-c"])
    };
    command.args([&text, name]);
    command
}

/// Writes a program that records who ran it.
fn plant(machine: &Machine, path: &str, owner: u32, group: u32, mode: u32) {
    let body = "#!/bin/sh\nid -u >>/run/ran\necho monsys-agent 0.1.0\n";
    machine.program(path, body);
    give(machine, path, owner, group, mode);
}

fn give(machine: &Machine, path: &str, owner: u32, group: u32, mode: u32) {
    let path = machine.path(path);
    chown(&path, Some(owner), Some(group)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Returns the paths of the role for `state: absent`, the longest list.
fn paths() -> Vec<String> {
    let own = BIN_FOLDERS
        .lines()
        .map(|folder| format!("{folder}/monsys-agent"));
    own.chain(["/usr/bin/monsys-agent".to_owned()]).collect()
}

fn look(machine: &Machine, is_busybox: bool) -> Run {
    let paths = paths();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    role(machine, is_busybox, "look.sh", &paths)
}

#[test]
fn the_list_names_no_folder_of_the_service_user() {
    assert!(!BIN_FOLDERS.contains("/var/lib/monsys"), "{BIN_FOLDERS}");
    assert!(BIN_FOLDERS.contains("/var/opt/monsys/bin"), "{BIN_FOLDERS}");
    let vars = include_str!("../../ansible/roles/monsys_agent/vars/main.yml");
    assert!(!vars.contains("/var/lib/monsys"), "{vars}");
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn no_program_of_the_service_user_is_run() {
    for is_busybox in [false, true] {
        let machine = Machine::new();
        plant(
            &machine,
            "var/lib/monsys/bin/monsys-agent",
            NOBODY,
            NOBODY,
            0o755,
        );
        let found = look(&machine, is_busybox).expect(0);
        assert_eq!(found.stdout, "");
        assert!(!machine.path("run/ran").exists());

        // The folder of the program on a host whose /usr/local and /opt are read-only.
        plant(&machine, "var/opt/monsys/bin/monsys-agent", 0, 0, 0o755);
        let found = look(&machine, is_busybox).expect(0);
        assert_eq!(
            found.stdout,
            "/var/opt/monsys/bin/monsys-agent\nmonsys-agent 0.1.0\n"
        );
    }
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn root_runs_no_program_that_other_users_can_change() {
    type Lay = fn(&Machine);
    let cases: [(&str, Lay, &[&str]); 9] = [
        (
            "the program is another user's",
            |machine| plant(machine, "usr/local/bin/monsys-agent", NOBODY, 0, 0o755),
            &[
                "`/usr/local/bin/monsys-agent`: owner 65534",
                "rm /usr/local/bin/monsys-agent",
            ],
        ),
        (
            "all can write to it",
            |machine| plant(machine, "usr/local/bin/monsys-agent", 0, 0, 0o757),
            &["mode -rwxr-xrwx", "rm /usr/local/bin/monsys-agent"],
        ),
        (
            "a group can write to it",
            |machine| plant(machine, "usr/local/bin/monsys-agent", 0, USERS, 0o775),
            &["group 100, mode -rwxrwxr-x"],
        ),
        (
            "its folder is another user's",
            |machine| {
                plant(machine, "opt/monsys/bin/monsys-agent", 0, 0, 0o755);
                give(machine, "opt/monsys/bin", NOBODY, NOBODY, 0o755);
            },
            &[
                "`/opt/monsys/bin`: owner 65534",
                "chown root:root /opt/monsys/bin && chmod go-w /opt/monsys/bin",
            ],
        ),
        (
            "a folder further up is another user's",
            |machine| {
                plant(machine, "opt/monsys/bin/monsys-agent", 0, 0, 0o755);
                give(machine, "opt/monsys", NOBODY, NOBODY, 0o755);
            },
            &["hint: chown root:root /opt/monsys && chmod go-w /opt/monsys\n"],
        ),
        (
            "a group can write to its folder",
            |machine| {
                plant(machine, "usr/local/bin/monsys-agent", 0, 0, 0o755);
                give(machine, "usr/local/bin", 0, USERS, 0o2775);
            },
            &["hint: chmod go-w /usr/local/bin\n"],
        ),
        (
            "its folder is sticky",
            |machine| {
                plant(machine, "usr/local/bin/monsys-agent", 0, 0, 0o755);
                give(machine, "usr/local/bin", 0, 0, 0o1777);
            },
            &["hint: chmod go-w /usr/local/bin\n"],
        ),
        (
            "a link leads to another user's folder",
            |machine| {
                plant(machine, "srv/theirs/agent", 0, 0, 0o755);
                give(machine, "srv/theirs", NOBODY, NOBODY, 0o755);
                fs::create_dir_all(machine.path("usr/local/bin")).unwrap();
                let link = machine.path("usr/local/bin/monsys-agent");
                symlink("../../../srv/./theirs/agent", link).unwrap();
            },
            &["`/srv/theirs`: owner 65534"],
        ),
        (
            "a link is another user's",
            |machine| {
                plant(machine, "srv/roots/agent", 0, 0, 0o755);
                fs::create_dir_all(machine.path("usr/local/bin")).unwrap();
                let link = machine.path("usr/local/bin/monsys-agent");
                symlink("/srv/roots/agent", &link).unwrap();
                lchown(link, Some(NOBODY), Some(NOBODY)).unwrap();
            },
            &["rm /usr/local/bin/monsys-agent"],
        ),
    ];
    for (what, lay, message) in cases {
        for is_busybox in [false, true] {
            println!("{what}, with BusyBox: {is_busybox}");
            let machine = Machine::new();
            machine.mount_small("usr/local", "10m");
            give(&machine, "usr/local", 0, 0, 0o755);
            give(&machine, "opt", 0, 0, 0o755);
            lay(&machine);
            let run = look(&machine, is_busybox).expect(78);
            run.expect_stderr(&["error: `/", "was not run", "  cause: ", "  hint: "])
                .expect_stderr(message);
            assert!(!machine.path("run/ran").exists(), "{what}: it was run");
        }
    }
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn root_runs_what_only_root_can_change() {
    type Lay = fn(&Machine);
    let cases: [(&str, Lay); 3] = [
        ("as installed", |machine| {
            plant(machine, "usr/local/bin/monsys-agent", 0, 0, 0o755);
        }),
        ("with root's group", |machine| {
            plant(machine, "usr/local/bin/monsys-agent", 0, 0, 0o775);
        }),
        ("behind links", |machine| {
            plant(machine, "srv/agents/1/agent", 0, 0, 0o755);
            symlink("1", machine.path("srv/agents/now")).unwrap();
            fs::create_dir_all(machine.path("usr/local/bin")).unwrap();
            let link = machine.path("usr/local/bin/monsys-agent");
            symlink("/srv/agents/now/../now/agent", link).unwrap();
        }),
    ];
    for (what, lay) in cases {
        for is_busybox in [false, true] {
            println!("{what}, with BusyBox: {is_busybox}");
            let machine = Machine::new();
            machine.mount_small("usr/local", "10m");
            give(&machine, "usr/local", 0, 0, 0o755);
            lay(&machine);
            let run = look(&machine, is_busybox).expect(0);
            assert_eq!(
                run.stdout,
                "/usr/local/bin/monsys-agent\nmonsys-agent 0.1.0\n"
            );
            assert_eq!(fs::read_to_string(machine.path("run/ran")).unwrap(), "0\n");
        }
    }
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_program_that_does_not_run_is_reported() {
    let machine = Machine::new();
    machine.program("usr/local/bin/monsys-agent", "\x7fELF of another machine");
    let run = look(&machine, false).expect(0);
    assert_eq!(run.stdout, "");
    run.expect_stderr(&["/usr/local/bin/monsys-agent does not run"]);
}

/// The role stays with a package, so it has to see each state of one.
#[test]
#[ignore = "needs root: mounts an overlay"]
fn the_package_is_found_in_each_of_its_states() {
    let machine = Machine::new();
    for (dpkg, rpm, expected) in [
        (
            "exit 1",
            "echo package monsys-agent is not installed; exit 1",
            "",
        ),
        (
            "echo installed 0.1.0-1",
            "exit 1",
            "deb installed 0.1.0-1\n",
        ),
        (
            "echo config-files 0.1.0-1",
            "exit 1",
            "deb config-files 0.1.0-1\n",
        ),
        (
            "echo half-configured 0.1.0-1",
            "exit 1",
            "deb half-configured 0.1.0-1\n",
        ),
        ("echo not-installed", "exit 1", ""),
        (
            "exit 1",
            "echo installed 0.1.0-1",
            "rpm installed 0.1.0-1\n",
        ),
    ] {
        machine.program("usr/bin/dpkg-query", format!("#!/bin/sh\n{dpkg}\n"));
        machine.program("usr/bin/rpm", format!("#!/bin/sh\n{rpm}\n"));
        let found = role(&machine, false, "packaged.sh", &[]).expect(0);
        assert_eq!(found.stdout, expected, "{dpkg}, {rpm}");
    }
    for name in ["dpkg-query", "rpm"] {
        machine.remove_program(name);
    }
    assert_eq!(
        role(&machine, false, "packaged.sh", &[]).expect(0).stdout,
        ""
    );
}
