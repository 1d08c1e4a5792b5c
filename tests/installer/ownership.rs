//! Owners and access of the files of an installation: root owns each one, and the service reads through its
//! group.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::machine::run;
use crate::script::CA;
use crate::service::{AGENT, UNIT, agent, fixture};

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
            "show --property=Job -- cloud-config.service",
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
