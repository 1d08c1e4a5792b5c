//! The deb and the rpm on booted hosts: installed, upgraded, downgraded, removed, purged.

use crate::common::TestHub;
use crate::disk::Disk;
use crate::lan::Lan;
use crate::machine::Machine;
use crate::one_liner::{expect_in_service, expect_no_trace, trust};
use crate::packages_offline::{Format, VERSION};

const FORMATS: [Format; 2] = [Format::Deb, Format::Rpm];

fn property(host: &Machine<'_>, name: &str) -> String {
    let line = format!("systemctl show --value --property={name} monsys-agent");
    host.run_ok(&line).trim().to_owned()
}

/// Checks a host that has the package and was never enrolled: the boot is complete, and nothing has failed.
#[track_caller]
fn expect_idle(host: &Machine<'_>) {
    let state = host.run("systemctl is-system-running --wait");
    let failed = host.run("systemctl list-units --failed --no-legend --plain");
    assert_eq!(state.stdout.trim(), "running", "{}", failed.stdout);
    assert_eq!(property(host, "ActiveState"), "inactive");
    assert_eq!(property(host, "Result"), "success");
    assert_eq!(property(host, "NRestarts"), "0");
    let status = property(host, "StatusText");
    assert!(status.contains("not enrolled"), "{status:?}");
    assert!(host.journal().contains("error: this host is not enrolled"));
    // By hand, an operator gets the error.
    for command in ["status", "run"] {
        let ran = host.run(&format!("monsys-agent {command}")).expect(78);
        let output = ran.stdout + &ran.stderr;
        assert!(output.contains("not enrolled"), "{command}: {output}");
    }
}

/// The operator's commands after the package: enrol with the token from the environment, and start the service
/// as the output says.
#[track_caller]
pub(crate) fn enrol(host: &Machine<'_>, token: &str) {
    let enrol = "monsys-agent enrol --hub-url https://192.0.2.1:8443";
    let ran = host.run_with(&[("MONSYS_TOKEN", token)], enrol).expect(0);
    let start = "systemctl start monsys-agent";
    assert!(
        ran.stdout.ends_with(&format!("unless it runs: {start}\n")),
        "{}",
        ran.stdout
    );
    host.run_ok(start);
}

/// Checks that another version of the package runs, with the same identity and without a failure on the way.
#[track_caller]
fn expect_replaced(hub: &TestHub, host: &Machine<'_>, install: &str) {
    let before = property(host, "MainPID");
    let credential = host.disk.read("etc/monsys/agent.toml");
    host.run_ok(install);
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
}

/// An image with the older package, its first boots, the enrolment, an upgrade, a downgrade, and a removal.
fn life_of(format: Format, release: &str, and_then: impl FnOnce(&TestHub, &Machine<'_>)) {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::debian(release, "web-1");
    trust(&hub, &disk);
    let output = format.install_into(&disk);
    assert!(output.contains("not enrolled yet"), "{output}");
    assert!(
        output.contains("systemctl enable --now monsys-agent"),
        "{output}"
    );
    format.bring(&disk);
    let host = lan.boot(&disk);
    let enabled = host.run("systemctl is-enabled monsys-agent");
    assert_eq!(enabled.stdout.trim(), "enabled");
    expect_idle(&host);

    enrol(&host, &token);
    expect_in_service(&hub, &host);
    let [older, newer] = format.commands();
    expect_replaced(&hub, &host, newer);
    expect_replaced(&hub, &host, older);
    expect_replaced(&hub, &host, newer);
    expect_no_trace(&host, &token);
    host.run_ok(format.verification());

    // The identity outlives a removal.
    host.run_ok(format.removal());
    assert!(!disk.exists("usr/bin/monsys-agent"));
    assert_ne!(host.run("systemctl is-active monsys-agent").code, 0);
    assert!(
        disk.exists("etc/monsys/agent.toml") && disk.exists("var/lib/monsys/agent-signing.key")
    );
    host.run_ok(newer);
    expect_in_service(&hub, &host);
    hub.expect_one_slot();
    and_then(&hub, &host);
}

#[track_caller]
fn expect_purged(host: &Machine<'_>) {
    let find = "find / -xdev -name '*monsys-agent*' -not -path '/root/*' -not -path '/var/log/*'";
    assert_eq!(host.run(find).stdout, "");
    let status = host.run("dpkg-query --show --showformat='${Status}' monsys-agent");
    assert!(!status.stdout.contains("installed"), "{}", status.stdout);
}

fn deb_on(release: &str) {
    life_of(Format::Deb, release, |_, host| {
        let query = "dpkg-query --show --showformat='${Version}' monsys-agent";
        assert_eq!(host.run_ok(query), format!("{VERSION}-1"));
        host.run_ok("dpkg --purge monsys-agent");
        assert!(!host.disk.exists("etc/monsys") && !host.disk.exists("var/lib/monsys"));
        expect_purged(host);
    });
}

/// Volumes of a container, and file systems of their own.
#[test]
fn a_purge_empties_folders_that_are_mount_points_and_says_that_they_stay() {
    life_of(Format::Deb, "bookworm", |_, host| {
        for folder in ["/etc/monsys", "/var/lib/monsys"] {
            host.run_ok(&format!(
                "cp -a {folder} /root/copy && mount -t tmpfs tmpfs {folder} && mv /root/copy/* {folder} && rmdir /root/copy"
            ));
        }
        let purged = host.run("dpkg --purge monsys-agent").expect(0);
        for folder in ["/etc/monsys", "/var/lib/monsys"] {
            let line = format!("monsys-agent: {folder} is a mount point, and stays\n");
            assert!(purged.stderr.contains(&line), "{}", purged.stderr);
            assert_eq!(host.run_ok(&format!("ls -A {folder}")), "");
        }
        expect_purged(host);
    });
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
    life_of(Format::Rpm, "bookworm", |_, host| {
        host.run_ok("rpm -e monsys-agent");
    });
}

/// A credential of the unit is there only for the step and the service, and not before them.
#[test]
fn an_image_with_a_package_is_not_degraded_until_a_credential_of_the_unit_enrols_it() {
    let lan = Lan::new();
    let hub = lan.hub();
    for format in FORMATS {
        let name = format!("{format:?}").to_lowercase();
        let disk = Disk::debian("bookworm", &name);
        trust(&hub, &disk);
        format.install_into(&disk);
        disk.write(
            "etc/monsys/agent.toml",
            "hub_url = \"https://192.0.2.1:8443\"\n",
        );
        let host = lan.boot(&disk);
        expect_idle(&host);
        let before = hub.agents().len();
        disk.write("root/token", &hub.token());
        disk.write(
            "etc/systemd/system/monsys-agent.service.d/token.conf",
            "[Service]\nLoadCredential=monsys-token:/root/token\n",
        );
        expect_in_service(&hub, &host.reboot());
        assert_eq!(hub.agents().len(), before + 1);
    }
}
