//! `install` and `uninstall` with a running service manager: upgrades, replaced files, and rollback.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use crate::common::{Run, TestHub};
use crate::machine::{Machine, run};
use crate::release::{self, Release};
use crate::script::{CA, mirror};

pub(crate) const AGENT: &str = "/usr/local/bin/monsys-agent";
const UNIT: &str = "etc/systemd/system/monsys-agent.service";

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

#[test]
#[ignore = "needs root: mounts an overlay"]
fn root_owns_every_file_and_the_service_reads_through_its_group() {
    let (machine, hub) = fixture();
    agent(&machine, &hub, "/root/monsys-agent", &["install"]).expect(0);
    let passwd = fs::read_to_string(machine.path("etc/passwd")).unwrap();
    let user = passwd
        .lines()
        .find(|line| line.starts_with("monsys:"))
        .unwrap();
    assert!(user.ends_with("nologin"), "{user}");
    let gid: u32 = user.split(':').nth(3).unwrap().parse().unwrap();
    for (path, group, mode) in [
        ("etc/monsys", 0, 0o755),
        ("etc/monsys/agent.toml", gid, 0o640),
        ("var/lib/monsys", gid, 0o750),
        ("var/lib/monsys/agent-signing.key", gid, 0o640),
        ("var/lib/monsys/agent-id", 0, 0o644),
        ("var/lib/monsys/state.json", gid, 0o640),
        ("var/lib/monsys/lock", 0, 0o600),
        ("var/lib/monsys/install.json", 0, 0o600),
        ("usr/local/bin/monsys-agent", 0, 0o755),
        (UNIT, 0, 0o644),
    ] {
        let metadata = fs::metadata(machine.path(path)).unwrap();
        assert_eq!(
            (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777),
            (0, group, mode),
            "{path}"
        );
    }
    assert_eq!(
        fs::read_link(
            machine.path("etc/systemd/system/multi-user.target.wants/monsys-agent.service")
        )
        .unwrap(),
        std::path::Path::new("/").join(UNIT)
    );
    assert_eq!(
        machine.service_calls(),
        [
            "is-active --quiet monsys-agent",
            "daemon-reload",
            "start monsys-agent",
            "is-active --quiet monsys-agent"
        ]
    );
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn files_of_an_enrolled_host_get_the_service_group_and_lose_it_again() {
    let (machine, hub) = fixture();
    agent(&machine, &hub, "/root/monsys-agent", &["enrol"]).expect(0);
    let before = machine.changes();
    agent(&machine, &hub, "/root/monsys-agent", &["install"]).expect(0);
    let toml = fs::metadata(machine.path("etc/monsys/agent.toml")).unwrap();
    assert_eq!((toml.uid(), toml.mode() & 0o7777), (0, 0o640));
    assert_ne!(toml.gid(), 0);
    agent(&machine, &hub, AGENT, &["uninstall"]).expect(0);
    assert_eq!(machine.changes(), before);
    hub.expect_one_slot();
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

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_replaced_file_is_restored() {
    let (machine, hub) = fixture();
    machine.write_file(UNIT, "# somebody's own\n");
    machine.program(&AGENT[1..], "#!/bin/sh\necho somebody's own\n");
    let before = machine.changes();
    // A failure before the enrolment restores the file, and so does the uninstallation.
    machine.write_file("run/broken", "");
    let arguments = ["install", "--no-enrol"];
    agent(&machine, &hub, "/root/monsys-agent", &arguments).expect(74);
    fs::remove_file(machine.path("run/broken")).unwrap();
    assert_eq!(
        fs::read_to_string(machine.path(UNIT)).unwrap(),
        "# somebody's own\n"
    );
    let text = agent(&machine, &hub, "/root/monsys-agent", &["install"])
        .expect(0)
        .stdout;
    assert!(
        text.contains("keep the existing file as /usr/local/bin/monsys-agent.monsys-kept"),
        "{text}"
    );
    agent(&machine, &hub, AGENT, &["uninstall", "--purge"]).expect(0);
    assert_eq!(machine.changes(), before);
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_changed_file_stays_unless_purged() {
    let (machine, hub) = fixture();
    let before = machine.changes();
    agent(&machine, &hub, "/root/monsys-agent", &["install"]).expect(0);
    let unit = fs::read_to_string(machine.path(UNIT)).unwrap();
    machine.write_file(UNIT, unit + "# mine\n");
    let run = agent(
        &machine,
        &hub,
        "/root/monsys-agent",
        &["uninstall", "--output", "json"],
    )
    .expect(0);
    let report = run.json();
    assert_eq!(report["left"][0]["what"], format!("/{UNIT}"));
    assert_eq!(report["left"][0]["cause"], "somebody has changed it since");
    let preserved: Vec<&Value> = report["kept"].as_array().unwrap().iter().collect();
    assert_eq!(preserved.len(), 4, "{preserved:?}");
    assert!(machine.path(UNIT).exists());
    // The install record still lists what is left.
    agent(
        &machine,
        &hub,
        "/root/monsys-agent",
        &["uninstall", "--purge"],
    )
    .expect(0);
    assert_eq!(machine.changes(), before);
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn an_install_record_that_the_service_could_have_written_is_rejected() {
    let (machine, hub) = fixture();
    agent(&machine, &hub, "/root/monsys-agent", &["install"]).expect(0);
    let record = machine.path("var/lib/monsys/install.json");
    let victim = machine.write_file("etc/victim", "precious");
    let digest = ring::digest::digest(&ring::digest::SHA256, b"precious");
    let sum = digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    let mut forged: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    let actions = forged["done"].as_array_mut().unwrap();
    actions.push(json!({"did": "put_file", "path": "/etc/victim", "sha256": [sum], "kept": null}));
    fs::remove_file(&record).unwrap();
    fs::write(&record, forged.to_string()).unwrap();
    let service = fs::metadata(machine.path("var/lib/monsys")).unwrap().gid();
    std::os::unix::fs::chown(&record, Some(service), None).unwrap();
    let before = machine.changes();
    for command in ["install", "uninstall"] {
        agent(&machine, &hub, AGENT, &[command])
            .expect(78)
            .expect_stderr(&["the install record is broken", "can write the file"]);
    }
    assert_eq!(machine.changes(), before);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    // A install record that root wrote would have removed it.
    std::os::unix::fs::chown(&record, Some(0), None).unwrap();
    agent(&machine, &hub, AGENT, &["uninstall"]).expect(0);
    assert!(!victim.exists());
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_read_only_usr_local_is_skipped() {
    let (machine, hub) = fixture();
    let before = machine.changes();
    machine.remount("usr/local", "ro");
    let report = agent(
        &machine,
        &hub,
        "/root/monsys-agent",
        &["install", "--output", "json"],
    )
    .expect(0)
    .json();
    let binary = "/opt/monsys/bin/monsys-agent";
    assert_eq!(report["binary"], binary);
    let unit = fs::read_to_string(machine.path(UNIT)).unwrap();
    assert!(unit.contains(&format!("ExecStart={binary} run")), "{unit}");
    // The program stays at its path, although the usual folder is writable again.
    machine.remount("usr/local", "rw");
    let again = agent(
        &machine,
        &hub,
        "/root/monsys-agent",
        &["install", "--output", "json"],
    );
    assert_eq!(again.expect(0).json()["changed"], false);
    agent(&machine, &hub, binary, &["uninstall", "--purge"]).expect(0);
    assert_eq!(machine.changes(), before);
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_ca_that_the_service_cannot_read_is_copied() {
    let (machine, hub) = fixture();
    let before = machine.changes();
    let ca = fs::read(machine.path(&CA[1..])).unwrap();
    machine.write_file("root/ca.pem", &ca);
    let mut install = machine.command(&["/root/monsys-agent", "install"]);
    install
        .env("MONSYS_TOKEN", hub.token())
        .env("MONSYS_HUB_URL", hub.url())
        .env("MONSYS_CA_FILE", "/root/ca.pem");
    run(install).expect(0);
    let copy = machine.path("etc/monsys/hub-ca.pem");
    assert_eq!(fs::read(&copy).unwrap(), ca);
    let toml = fs::read_to_string(machine.path("etc/monsys/agent.toml")).unwrap();
    assert!(
        toml.contains("ca_file = \"/etc/monsys/hub-ca.pem\""),
        "{toml}"
    );
    agent(&machine, &hub, AGENT, &["uninstall", "--purge"]).expect(0);
    fs::remove_file(machine.path("root/ca.pem")).unwrap();
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
    let report = agent(
        &machine,
        &hub,
        "/root/monsys-agent",
        &["install", "--output", "json"],
    )
    .expect(0)
    .json();
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
    let report = agent(
        &machine,
        &hub,
        "/root/monsys-agent",
        &["install", "--output", "json"],
    )
    .expect(0)
    .json();
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

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_lost_install_record_is_reported_and_written_again() {
    let (machine, hub) = fixture();
    let before = machine.changes();
    agent(&machine, &hub, "/root/monsys-agent", &["install"]).expect(0);
    fs::remove_file(machine.path("var/lib/monsys/install.json")).unwrap();
    let refused = |arguments: &[&str]| {
        agent(&machine, &hub, AGENT, arguments)
            .expect(78)
            .expect_stderr(&[UNIT, "monsys-agent install --no-enrol --no-start"]);
        machine.changes()
    };
    assert_eq!(refused(&["uninstall"]), refused(&["uninstall", "--purge"]));
    assert!(machine.path(UNIT).exists());
    let again = ["install", "--no-enrol", "--no-start"];
    agent(&machine, &hub, AGENT, &again).expect(0);
    // The second run finds everything in its install record.
    let run = agent(&machine, &hub, AGENT, &again).expect(0);
    assert!(run.stdout.contains("Nothing to change"), "{}", run.stdout);
    agent(&machine, &hub, AGENT, &["uninstall", "--purge"]).expect(0);
    let left = machine.changes();
    let left: Vec<_> = left
        .keys()
        .filter(|path| !before.contains_key(*path) && path.to_string_lossy().contains("monsys"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
