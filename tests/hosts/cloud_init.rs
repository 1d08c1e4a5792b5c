//! Hosts that cloud-init sets up from user data on a seed disk (`NoCloud`).

use std::fs;

use crate::disk::Disk;
use crate::lan::Lan;
use crate::machine::Machine;
use crate::one_liner::{ONE_LINER, trust};

/// Writes user data for the host.
pub(crate) fn seed(disk: &Disk, user_data: &str) {
    let folder = "var/lib/cloud/seed/nocloud";
    let name = &disk.name;
    let meta = format!("instance-id: iid-{name}-1\nlocal-hostname: {name}\n");
    disk.write(&format!("{folder}/meta-data"), &meta);
    disk.write(&format!("{folder}/user-data"), user_data);
    // The network is configured already. ssh keys of one type, since each takes time to make.
    disk.write(
        "etc/cloud/cloud.cfg.d/99-test.cfg",
        "network: {config: disabled}\ndatasource_list: [NoCloud, None]\nlocale: false\nssh_genkeytypes: [ed25519]\n",
    );
}

/// Waits until cloud-init is done, and checks that it reports no failure.
#[track_caller]
pub(crate) fn expect_done(host: &Machine<'_>) {
    // It waits forever for a boot that has never begun.
    let status = host.run("timeout 240 cloud-init status --wait --long");
    let log = fs::read_to_string(host.path("var/log/cloud-init-output.log")).unwrap_or_default();
    assert_eq!(status.code, 0, "{}\n{log}", status.stdout);
    assert!(status.stdout.contains("status: done"), "{}", status.stdout);
}

#[test]
fn a_rejected_enrolment_fails_cloud_init_with_the_reason_in_its_log() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = format!("{}x", hub.token());
    let disk = Disk::with_cloud_init("bookworm", "web-1");
    trust(&hub, &disk);
    seed(
        &disk,
        &format!(
            "#cloud-config\nruncmd:\n- [sh, -c, \"{}\"]\n",
            ONE_LINER.replace("sh |", &format!("sh | MONSYS_TOKEN={token}"))
        ),
    );
    let host = lan.boot(&disk);
    let status = host.run("cloud-init status --wait --long");
    assert!(status.stdout.contains("status: error"), "{}", status.stdout);
    assert_ne!(status.code, 0);
    let log = host.run_ok("cat /var/log/cloud-init-output.log");
    assert!(log.contains("the hub rejected the token"), "{log}");
    assert_eq!(hub.agents().len(), 0);
    assert_eq!(
        host.run("systemctl is-active monsys-agent").stdout.trim(),
        "inactive"
    );
}
