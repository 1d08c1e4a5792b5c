//! The deb and the rpm on booted hosts: installed, upgraded, removed, purged.

use std::fs;

use crate::common::TestHub;
use crate::disk::Disk;
use crate::lan::Lan;
use crate::machine::Machine;
use crate::one_liner::{expect_in_service, expect_no_trace, trust};
use crate::prepared::{dist, older_packages};

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
pub(crate) const OLDER: &str = "0.0.9";

/// Copies a package to `/root/NAME` on the host.
pub(crate) fn bring(disk: &Disk, package: &std::path::Path, name: &str) {
    fs::copy(package, disk.path(&format!("root/{name}"))).unwrap();
}

/// The operator's commands after the package: enrol with the token from the environment, start the service.
#[track_caller]
pub(crate) fn enrol(host: &Machine<'_>, token: &str) {
    let enrol = "monsys-agent enrol --hub-url https://192.0.2.1:8443";
    host.run_with(&[("MONSYS_TOKEN", token)], enrol).expect(0);
    host.run_ok("systemctl start monsys-agent");
}

fn property(host: &Machine<'_>, name: &str) -> String {
    let line = format!("systemctl show --value --property={name} monsys-agent");
    host.run_ok(&line).trim().to_owned()
}

/// Installs and enrols with the older package, then upgrades to the newer one.
#[track_caller]
fn upgrade(hub: &TestHub, host: &Machine<'_>, token: &str, install: &str, upgrade: &str) {
    let output = host.run(install).expect(0);
    let output = output.stdout + &output.stderr;
    assert!(output.contains("not enrolled yet"), "{output}");
    assert_eq!(
        host.run("systemctl is-enabled monsys-agent").stdout.trim(),
        "enabled"
    );
    assert_eq!(property(host, "ActiveState"), "inactive");
    enrol(host, token);
    expect_in_service(hub, host);
    let credential = host.disk.read("etc/monsys/agent.toml");
    let before = property(host, "MainPID");

    host.run_ok(upgrade);
    assert_eq!(property(host, "ActiveState"), "active");
    assert_ne!(
        property(host, "MainPID"),
        before,
        "the old program is still in service"
    );
    assert_eq!(property(host, "NRestarts"), "0", "it failed on the way");
    assert_eq!(host.disk.read("etc/monsys/agent.toml"), credential);
    expect_in_service(hub, host);
    hub.expect_one_slot();
    expect_no_trace(host, token);
}

fn deb_on(release: &str) {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::debian(release, "web-1");
    trust(&hub, &disk);
    let name = |version: &str| format!("monsys-agent_{version}-1_amd64.deb");
    bring(&disk, &older_packages().join(name(OLDER)), "old.deb");
    bring(&disk, &dist().join(name(VERSION)), "new.deb");
    let host = lan.boot(&disk);
    upgrade(
        &hub,
        &host,
        &token,
        "dpkg -i /root/old.deb",
        "dpkg -i /root/new.deb",
    );
    let installed = host.run_ok("dpkg-query --show --showformat='${Version}' monsys-agent");
    assert_eq!(installed, format!("{VERSION}-1"));

    // The identity outlives a removal; after a new installation the service continues.
    host.run_ok("dpkg --remove monsys-agent");
    assert!(!disk.exists("usr/bin/monsys-agent"));
    assert_ne!(host.run("systemctl is-active monsys-agent").code, 0);
    assert!(
        disk.exists("etc/monsys/agent.toml") && disk.exists("var/lib/monsys/agent-signing.key")
    );
    host.run_ok("dpkg -i /root/new.deb");
    expect_in_service(&hub, &host);
    hub.expect_one_slot();

    host.run_ok("dpkg --purge monsys-agent");
    assert!(!disk.exists("etc/monsys") && !disk.exists("var/lib/monsys"));
    assert_eq!(
        host.run(
            "find / -xdev -name '*monsys-agent*' -not -path '/root/*' -not -path '/var/log/*'"
        )
        .stdout,
        ""
    );
}

#[test]
fn the_deb_installs_upgrades_and_purges_on_bookworm() {
    deb_on("bookworm");
}

/// systemd 247: no system credentials, and an older sandbox.
#[test]
fn the_deb_installs_upgrades_and_purges_on_bullseye() {
    deb_on("bullseye");
}

#[test]
fn the_deb_installs_upgrades_and_purges_on_trixie() {
    deb_on("trixie");
}

#[test]
fn the_rpm_installs_upgrades_and_is_removed() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::debian("bookworm", "web-1");
    trust(&hub, &disk);
    let name = |version: &str| format!("monsys-agent-{version}-1.x86_64.rpm");
    bring(&disk, &older_packages().join(name(OLDER)), "old.rpm");
    bring(&disk, &dist().join(name(VERSION)), "new.rpm");
    let host = lan.boot(&disk);
    // Debian's rpm does not know the packages of dpkg.
    let (install, newer) = (
        "rpm -i --nodeps /root/old.rpm",
        "rpm -U --nodeps /root/new.rpm",
    );
    upgrade(&hub, &host, &token, install, newer);
    host.run_ok("rpm -e monsys-agent");
    assert!(!disk.exists("usr/bin/monsys-agent"));
    assert_ne!(host.run("systemctl is-active monsys-agent").code, 0);
    assert!(
        disk.exists("etc/monsys/agent.toml") && disk.exists("var/lib/monsys/agent-signing.key")
    );
}
