//! First boots that do not enrol at once: a service tries again, also after a reboot, and every place reports it.

use crate::cloud_init::{expect_done, seed};
use crate::disk::Disk;
use crate::lan::Lan;
use crate::machine::Machine;
use crate::one_liner::{expect_in_service, expect_no_trace, trust};
use crate::templates::template;

const LATE: &str = "cat /etc/late-token";
const AWS: &str = "aws ssm get-parameter --region 'eu-west-1' --name '/monsys/enrolment' --with-decryption --query Parameter.Value --output text";
/// Settings with short pauses, and a short deadline for the agent.
const QUICK: &str = "PAUSE=1\n    LONGEST_PAUSE=2\n    MONSYS_WAIT=1s\n    TAG=shard-1";

/// Mounts a folder over itself at each boot, as hardened images do: `/var` noexec, `/usr/local` read-only.
fn mount_over_itself(disk: &Disk, folder: &str, option: &str) {
    let unit = format!(
        "[Unit]\nDefaultDependencies=no\nBefore=local-fs.target\n\
         [Mount]\nWhat=/{folder}\nWhere=/{folder}\nType=none\nOptions=bind,{option}\n"
    );
    let name = format!("{}.mount", folder.replace('/', "-"));
    disk.write(&format!("etc/systemd/system/{name}"), &unit);
    let wants = disk.path("etc/systemd/system/local-fs.target.requires");
    std::fs::create_dir_all(&wants).unwrap();
    let path = format!("/etc/systemd/system/{name}");
    std::os::unix::fs::symlink(path, wants.join(name)).unwrap();
}

/// Checks that cloud-init reports the failure, and that the service will try again.
#[track_caller]
fn expect_trying(host: &Machine<'_>) {
    let status = host.run("cloud-init status --wait --long");
    assert!(status.stdout.contains("status: error"), "{}", status.stdout);
    assert!(
        status.stdout.contains("scripts-per-boot"),
        "{}",
        status.stdout
    );
    assert_eq!(
        host.run("systemctl is-enabled monsys-agent-boot")
            .stdout
            .trim(),
        "enabled"
    );
    crate::eventually("a try of the service", || {
        let journal = host
            .run("journalctl --boot --unit=monsys-agent-boot --no-pager")
            .stdout;
        journal.contains("the token command failed") && journal.contains("the next try is in")
    });
    let state = host.run_ok("cat /var/lib/monsys-boot/state");
    for part in [
        "state=trying",
        "code=74",
        "error=install.sh ended with 74: the token command failed",
    ] {
        assert!(state.contains(part), "{state}");
    }
}

#[track_caller]
fn a_late_token(release: &str) {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::with_cloud_init(release, "web-1");
    trust(&hub, &disk);
    mount_over_itself(&disk, "var", "noexec");
    mount_over_itself(&disk, "usr/local", "ro");
    let replaced = [(AWS, LATE), ("TAG=shard-1", QUICK)];
    seed(
        &disk,
        &template("secret-by-reference.yaml", &hub, &replaced),
    );
    let host = lan.boot(&disk);
    assert_eq!(
        host.run("cp /bin/true /var/true; /var/true").code,
        126,
        "/var is executable"
    );
    assert_ne!(
        host.run("touch /usr/local/bin/x").code,
        0,
        "/usr/local is writable"
    );
    expect_trying(&host);
    let host = host.reboot();
    expect_trying(&host);
    assert_eq!(hub.spent(), 0);

    disk.write("etc/late-token", &token);
    crate::eventually("the end of the service", || {
        !host
            .path("etc/systemd/system/monsys-agent-boot.service")
            .exists()
            && !host.path("var/lib/monsys-boot").exists()
    });
    expect_in_service(&hub, &host);
    hub.expect_one_slot();
    assert!(host.journal().contains("Enrolled web-1"));
    for left in [
        "var/lib/cloud/scripts/per-boot/monsys-agent",
        "etc/monsys-boot",
    ] {
        assert!(!disk.exists(left), "{left} is left");
    }
    println!(
        "{}",
        host.run("journalctl --boot --unit=monsys-agent-boot --no-pager")
            .stdout
    );
    host.run_ok("rm /etc/late-token");
    expect_no_trace(&host, &token);
    let host = host.reboot();
    expect_done(&host);
    expect_in_service(&hub, &host);
    assert!(!disk.exists("var/lib/cloud/scripts/per-boot/monsys-agent"));
    hub.expect_one_slot();
}

#[test]
fn a_late_token_on_a_hardened_host_enrols_after_a_reboot_on_debian_12() {
    a_late_token("bookworm");
}

#[test]
fn a_late_token_on_a_hardened_host_enrols_after_a_reboot_on_debian_13() {
    a_late_token("trixie");
}

/// A refusal by the hub is final: nothing tries again, each boot reports it, and an operator can fix it.
#[test]
fn a_refusal_ends_the_tries_and_each_boot_reports_it() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::with_cloud_init("bookworm", "web-1");
    trust(&hub, &disk);
    disk.write("etc/late-token", &format!("{token}x"));
    let replaced = [(AWS, LATE), ("TAG=shard-1", QUICK)];
    seed(
        &disk,
        &template("secret-by-reference.yaml", &hub, &replaced),
    );
    let host = lan.boot(&disk);
    let refused = |host: &Machine<'_>| {
        let status = host.run("cloud-init status --wait --long");
        assert!(status.stdout.contains("status: error"), "{}", status.stdout);
        let state = host.run_ok("cat /var/lib/monsys-boot/state");
        assert!(state.starts_with("state=final\ncode=77\n"), "{state}");
        assert_ne!(host.run("systemctl is-enabled monsys-agent-boot").code, 0);
        assert!(
            host.run_ok("cat /var/log/cloud-init-output.log")
                .contains("only an operator tries again")
        );
    };
    refused(&host);
    let host = host.reboot();
    refused(&host);
    disk.write("etc/late-token", &token);
    host.run_ok("sh /var/lib/monsys-boot/boot.sh");
    expect_in_service(&hub, &host);
    hub.expect_one_slot();
    assert!(!disk.exists("var/lib/monsys-boot"));
}
