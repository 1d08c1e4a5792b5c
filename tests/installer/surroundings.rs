//! `install` on machines with a read-only /usr/local, without a service manager, as an image, and with the
//! package.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::Value;

use crate::common::TestHub;
use crate::machine::Machine;
use crate::release::{self, Release};
use crate::script::mirror;
use crate::service::{AGENT, UNIT, agent, fixture};

/// Runs `install`, and returns its report.
#[track_caller]
fn installed(machine: &Machine, hub: &TestHub) -> Value {
    let arguments = ["install", "--output", "json"];
    let run = agent(machine, hub, "/root/monsys-agent", &arguments);
    run.expect(0).json()
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_read_only_usr_local_is_skipped() {
    let (machine, hub) = fixture();
    let before = machine.changes();
    machine.remount("usr/local", "ro");
    let report = installed(&machine, &hub);
    let binary = "/opt/monsys/bin/monsys-agent";
    assert_eq!(report["binary"], binary);
    let unit = fs::read_to_string(machine.path(UNIT)).unwrap();
    assert!(unit.contains(&format!("ExecStart={binary} run")), "{unit}");
    // The program stays at its path, although the usual folder is writable again.
    machine.remount("usr/local", "rw");
    assert_eq!(installed(&machine, &hub)["changed"], false);
    agent(&machine, &hub, binary, &["uninstall", "--purge"]).expect(0);
    assert_eq!(machine.changes(), before);
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn without_a_service_manager_the_host_enrols_and_the_report_names_what_was_skipped() {
    // systemd is installed but not running, as in a container or a chroot.
    let release = Release::new();
    let machine = Machine::without_manager();
    let hub = mirror(&release, &machine);
    machine.program("root/monsys-agent", fs::read(release::agent()).unwrap());
    let before = machine.changes();
    let report = installed(&machine, &hub);
    assert_eq!(report["service"], "not_started");
    assert_eq!(report["not_done"][0]["what"], "the start of the service");
    hub.expect_one_slot();
    agent(&machine, &hub, AGENT, &["uninstall", "--purge"]).expect(0);
    assert_eq!(machine.changes(), before);

    // OpenRC is running.
    fs::create_dir_all(machine.path("run/openrc")).unwrap();
    let rc_service = "#!/bin/sh\necho \"rc $*\" >>/run/calls\ncase $2 in status) test -e /run/up ;; start) touch /run/up ;; stop) rm -f /run/up ;; esac\n";
    machine.program("usr/sbin/rc-service", rc_service);
    let before = machine.changes();
    let report = installed(&machine, &hub);
    assert_eq!(report["service"], "started");
    let script = fs::read_to_string(machine.path("etc/init.d/monsys-agent")).unwrap();
    assert!(
        script.contains("command=\"/usr/local/bin/monsys-agent\""),
        "{script}"
    );
    assert!(
        machine
            .path("etc/runlevels/default/monsys-agent")
            .is_symlink()
    );
    assert_eq!(
        machine.service_calls(),
        [
            "rc monsys-agent status",
            "rc monsys-agent start",
            "rc monsys-agent status"
        ]
    );
    agent(&machine, &hub, AGENT, &["uninstall", "--purge"]).expect(0);
    assert_eq!(machine.changes(), before);
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn install_prepares_an_image_and_adds_the_ephemeral_hook() {
    let (machine, hub) = fixture();
    let arguments = [
        "install",
        "--defer",
        "--ephemeral",
        "--token-command",
        "cat /run/token",
        "--output",
        "json",
    ];
    let report = agent(&machine, &hub, "/root/monsys-agent", &arguments)
        .expect(0)
        .json();
    assert_eq!(report["enrolment"]["result"], "deferred");
    assert_eq!(report["service"], "not_started");
    assert!(hub.agents().is_empty());
    // The privileged step completes the enrolment, and the service can read the result.
    let toml = fs::metadata(machine.path("etc/monsys/agent.toml")).unwrap();
    let state = fs::metadata(machine.path("var/lib/monsys")).unwrap();
    assert_eq!((toml.uid(), toml.gid()), (0, state.gid()));
    let hook = machine.path("etc/systemd/system/monsys-agent.service.d/50-ephemeral.conf");
    let hook = fs::read_to_string(hook).unwrap();
    assert!(
        hook.contains("exec /usr/local/bin/monsys-agent unenrol"),
        "{hook}"
    );
    assert!(
        !machine
            .service_calls()
            .iter()
            .any(|call| call.starts_with("start"))
    );
    let again = agent(&machine, &hub, AGENT, &arguments).expect(0).json();
    assert_eq!(again["changed"], false, "{again}");
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_packaged_installation_is_not_changed() {
    let (machine, hub) = fixture();
    machine.program("usr/bin/monsys-agent", fs::read(release::agent()).unwrap());
    machine.write_file("var/lib/dpkg/info/monsys-agent.list", "");
    let before = machine.changes();
    for command in [
        &["install"][..],
        &["install", "--dry-run"],
        &["uninstall", "--purge"],
    ] {
        agent(&machine, &hub, "/usr/bin/monsys-agent", command)
            .expect(64)
            .expect_stderr(&["belongs to a package", "apt-get remove monsys-agent"]);
    }
    assert_eq!(machine.changes(), before);
}
