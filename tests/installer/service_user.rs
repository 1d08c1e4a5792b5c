//! The service's user and its group, of which the host may have one, both, or neither.

use std::fs;

use crate::machine::{Machine, run};
use crate::script::CA;
use crate::service::{AGENT, agent, fixture};

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_user_that_cannot_run_the_service_is_refused_before_a_use() {
    let (machine, hub) = fixture();
    let token = hub.token();
    let install = || {
        let mut command = machine.command(&["/root/monsys-agent", "install", "--no-start"]);
        command
            .env("MONSYS_TOKEN", &token)
            .env("MONSYS_HUB_URL", hub.url())
            .env("MONSYS_CA_FILE", CA);
        run(command)
    };
    let passwd = fs::read_to_string(machine.path("etc/passwd")).unwrap();
    for (line, hint) in [
        ("monsys:x:4711:100::/:/bin/sh\n", "groupadd --system monsys"),
        ("monsys:x:0:0::/:/bin/sh\n", "another uid"),
    ] {
        fs::write(machine.path("etc/passwd"), passwd.clone() + line).unwrap();
        install()
            .expect(73)
            .expect_stderr(&["the user monsys", hint]);
    }
    // The commands of the host know the user from another source than /etc/passwd, and make none.
    fs::write(machine.path("etc/passwd"), &passwd).unwrap();
    for name in ["systemd-sysusers", "useradd", "adduser", "addgroup"] {
        machine.remove_program(name);
    }
    machine.program("usr/bin/systemd-sysusers", "#!/bin/sh\nexit 0\n");
    install()
        .expect(73)
        .expect_stderr(&["getent passwd monsys >> /etc/passwd"]);
    assert!(hub.agents().is_empty());
}

/// The group may exist before the user: an operator has reserved its number, or a removal has kept it.
#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_group_that_exists_already_is_the_group_of_the_new_user() {
    let (machine, hub) = fixture();
    let group = fs::read_to_string(machine.path("etc/group")).unwrap() + "monsys:x:4712:\n";
    let gid_of_user = || {
        let passwd = fs::read_to_string(machine.path("etc/passwd")).unwrap();
        let user = passwd.lines().find(|line| line.starts_with("monsys:"));
        let user = user.unwrap_or_else(|| panic!("no user: {passwd}"));
        user.split(':').nth(3).unwrap().to_owned()
    };
    for tools in ["systemd-sysusers", "useradd", "adduser"] {
        fs::write(machine.path("etc/group"), &group).unwrap();
        match tools {
            "useradd" => machine.remove_program("systemd-sysusers"),
            "adduser" => only_busybox_adduser(&machine),
            _ => {}
        }
        agent(&machine, &hub, "/root/monsys-agent", &["install"]).expect(0);
        assert_eq!(gid_of_user(), "4712");
        agent(&machine, &hub, AGENT, &["uninstall", "--purge"]).expect(0);
        // Only the user was made, so only the user is removed, whatever userdel(8) does.
        let after = fs::read_to_string(machine.path("etc/group")).unwrap();
        assert!(
            after.lines().any(|line| line == "monsys:x:4712:"),
            "{after}"
        );
        let passwd = fs::read_to_string(machine.path("etc/passwd")).unwrap();
        assert!(!passwd.contains("monsys:"), "{passwd}");
    }
}

/// useradd(8) writes /etc/passwd before /etc/group, and a run may be killed in between.
#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_group_that_a_killed_run_did_not_make_is_made_by_the_next_run() {
    let (machine, hub) = fixture();
    for tools in ["systemd-sysusers", "useradd", "adduser"] {
        match tools {
            "useradd" => machine.remove_program("systemd-sysusers"),
            "adduser" => only_busybox_adduser(&machine),
            _ => {}
        }
        agent(&machine, &hub, "/root/monsys-agent", &["install"]).expect(0);
        for name in ["etc/group", "etc/gshadow"] {
            remove_lines(&machine, name);
        }
        agent(&machine, &hub, AGENT, &["install"]).expect(0);
        run(machine.command(&["getent", "group", "monsys"])).expect(0);
        agent(&machine, &hub, AGENT, &["uninstall", "--purge"]).expect(0);
    }
}

/// The deb makes what is missing of user and group, with systemd-sysusers and without.
#[test]
#[ignore = "needs root: mounts an overlay"]
fn the_deb_makes_what_is_missing_of_user_and_group() {
    const POSTINST: &str = include_str!("../../packaging/deb/postinst");
    const SYSUSERS: &str = include_str!("../../packaging/systemd/monsys-agent.sysusers");
    let machine = Machine::without_manager();
    machine.program("usr/bin/deb-systemd-helper", "#!/bin/sh\nexit 0\n");
    machine.write_file("usr/lib/sysusers.d/monsys-agent.conf", SYSUSERS);
    let [passwd, group] = ["etc/passwd", "etc/group"]
        .map(|path| (path, fs::read_to_string(machine.path(path)).unwrap()));
    let (user_line, group_line) = ("monsys:x:4711:100::/:/bin/sh\n", "monsys:x:4712:\n");
    for is_with_sysusers in [true, false] {
        if !is_with_sysusers {
            machine.remove_program("systemd-sysusers");
        }
        for (user, own_group) in [("", ""), (user_line, ""), ("", group_line)] {
            fs::write(machine.path(passwd.0), format!("{}{user}", passwd.1)).unwrap();
            fs::write(machine.path(group.0), format!("{}{own_group}", group.1)).unwrap();
            // useradd(8) checks these for the name too.
            for name in ["etc/shadow", "etc/gshadow"] {
                remove_lines(&machine, name);
            }
            run(machine.command(&["sh", "-c", POSTINST, "postinst", "configure"])).expect(0);
            for name in ["passwd", "group"] {
                run(machine.command(&["getent", name, "monsys"])).expect(0);
            }
        }
    }
}

/// Makes stand-ins for the four programs of `BusyBox` the only ones that change users: Debian's `BusyBox` has none of
/// them. They take the options of `BusyBox` alone, and refuse a name that exists, as `BusyBox` does.
fn only_busybox_adduser(machine: &Machine) {
    machine.remove_program("systemd-sysusers");
    for name in ["useradd", "groupadd", "userdel", "groupdel"] {
        let program = fs::read(machine.path("usr/sbin").join(name)).unwrap();
        machine.program(&format!("srv/{name}"), program);
        machine.remove_program(name);
    }
    for (name, script) in [
        (
            "addgroup",
            "[ \"$1\" = -S ] && [ $# = 2 ] && exec /srv/groupadd --system \"$2\"
            [ \"$1$2\" = -S-g ] && [ $# = 4 ] && exec /srv/groupadd --system --gid \"$3\" \"$4\"",
        ),
        (
            "adduser",
            "while getopts SDHh:s:G:g: option; do case $option in h) home=$OPTARG ;; s) shell=$OPTARG ;; G) group=$OPTARG ;; S | D | H | g) ;; *) exit 1 ;; esac; done
            shift $((OPTIND - 1)); [ $# = 1 ] && exec /srv/useradd --system --no-create-home --home-dir \"$home\" --shell \"$shell\" --gid \"$group\" \"$1\"",
        ),
        ("deluser", "exec /srv/userdel \"$1\""),
        ("delgroup", "exec /srv/groupdel \"$1\""),
    ] {
        machine.remove_program(name);
        machine.program(&format!("usr/sbin/{name}"), format!("#!/bin/sh\n{script}\nexit 1\n"));
    }
}

/// Removes the lines of the service's user or group from a file such as passwd(5).
fn remove_lines(machine: &Machine, name: &str) {
    let text = fs::read_to_string(machine.path(name)).unwrap();
    let others = text.split_inclusive('\n');
    let others: String = others.filter(|line| !line.starts_with("monsys:")).collect();
    fs::write(machine.path(name), others).unwrap();
}
