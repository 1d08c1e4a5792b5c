//! `install` with a running service manager: when the service starts, and upgrades.

use std::fs;

use crate::common::{Run, TestHub};
use crate::machine::{Machine, run};
use crate::release::{self, Release};
use crate::script::{CA, mirror};

pub(crate) const AGENT: &str = "/usr/local/bin/monsys-agent";
pub(crate) const UNIT: &str = "etc/systemd/system/monsys-agent.service";

/// Runs the program at `path` with these arguments, and with hub and token in its environment.
pub(crate) fn agent(machine: &Machine, hub: &TestHub, path: &str, arguments: &[&str]) -> Run {
    let mut command = machine.command(&[&[path], arguments].concat());
    command
        .env("MONSYS_TOKEN", hub.token())
        .env("MONSYS_HUB_URL", hub.url())
        .env("MONSYS_CA_FILE", CA);
    run(command)
}

pub(crate) fn fixture() -> (Machine, TestHub) {
    let release = Release::new();
    let machine = Machine::new();
    let hub = mirror(&release, &machine);
    let bytes = fs::read(release::agent()).unwrap();
    machine.program("root/monsys-agent", bytes);
    (machine, hub)
}

/// As cloud-init runs `bootcmd`: the service waits for cloud-config.service, which waits for this run.
#[test]
#[ignore = "needs root: mounts an overlay"]
fn an_install_before_the_boot_reaches_the_service_does_not_wait_for_it() {
    let (machine, hub) = fixture();
    let systemctl = fs::read_to_string(machine.path("usr/bin/systemctl")).unwrap();
    let booting = systemctl.replace("show) echo", "show) echo Job=12; echo");
    assert_ne!(booting, systemctl);
    machine.program("usr/bin/systemctl", &booting);
    let arguments = ["install", "--output", "json"];
    let report = agent(&machine, &hub, "/root/monsys-agent", &arguments)
        .expect(0)
        .json();
    assert_eq!(report["service"], "queued");
    let calls = machine.service_calls();
    assert!(
        calls.contains(&"start --no-block monsys-agent".to_owned()),
        "{calls:?}"
    );
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn an_upgrade_restarts_the_service_once_and_a_bad_one_is_rolled_back() {
    let (machine, hub) = fixture();
    agent(&machine, &hub, "/root/monsys-agent", &["install"]).expect(0);
    let old = machine.changes();
    let mut bytes = fs::read(release::agent()).unwrap();
    bytes.extend_from_slice(b"another build");
    machine.program("root/new", &bytes);
    let calls_before = machine.service_calls().len();

    // The new service does not start: the old program and service are restored.
    let systemctl = fs::read_to_string(machine.path("usr/bin/systemctl")).unwrap();
    let picky = systemctl.replace(
        "test ! -e /run/broken",
        "! grep -q 'another build' /usr/local/bin/monsys-agent",
    );
    assert_ne!(picky, systemctl);
    machine.program("usr/bin/systemctl", &picky);
    agent(&machine, &hub, "/root/new", &["install"])
        .expect(74)
        .expect_stderr(&[
            "the service did not start",
            "rolling back what this run did",
        ]);
    machine.program("usr/bin/systemctl", &systemctl);
    let mut now = machine.changes();
    now.remove(std::path::Path::new("/root/new"));
    assert_eq!(now, old);
    assert!(machine.path("run/up").exists());
    assert_eq!(
        machine.service_calls()[calls_before..]
            .iter()
            .filter(|call| call.starts_with("restart"))
            .count(),
        2
    );

    // The new service starts.
    let calls_before = machine.service_calls().len();
    let report = agent(
        &machine,
        &hub,
        "/root/new",
        &["install", "--output", "json"],
    )
    .expect(0)
    .json();
    assert_eq!(report["service"], "restarted");
    assert_eq!(report["changes"].as_array().unwrap().len(), 1);
    assert_eq!(report["changes"][0]["replaces"], "ours");
    let calls = machine.service_calls()[calls_before..].to_vec();
    assert!(
        !calls.iter().any(|call| call.starts_with("stop")),
        "{calls:?}"
    );
    assert_eq!(fs::read(machine.path(&AGENT[1..])).unwrap(), bytes);
    hub.expect_one_slot();
}
