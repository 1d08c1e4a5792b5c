//! Copies of a booted host, whose firmware has a product UUID that only root reads.

use crate::disk::Disk;
use crate::lan::Lan;
use crate::machine::Machine;

/// Makes the container look like a virtual machine before the agent's service starts: a product UUID, and no
/// trace of the container manager.
const FIRMWARE: &str = "#!/bin/sh -e
mount -t tmpfs firmware /sys/class
mkdir -p /sys/class/dmi/id
cp /etc/test-uuid /sys/class/dmi/id/product_uuid
chmod 400 /sys/class/dmi/id/product_uuid
rm -f /run/systemd/container
mkdir /run/nodes
: >/run/notify
mount --rbind /run/host/inaccessible /run/nodes
mount --bind /run/host/notify /run/notify
mount -t tmpfs none /run/host
mkdir /run/host/inaccessible
: >/run/host/notify
mount --rbind /run/nodes /run/host/inaccessible
mount --bind /run/notify /run/host/notify
: >/run/environ
mount --bind /run/environ /proc/1/environ
";
const UNIT: &str = "[Unit]
Before=monsys-agent.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/etc/test-firmware
[Install]
WantedBy=multi-user.target
";
const UUID: &str = "5c241f42-a87f-fa60-6af6-a46351ced0eb\n";
const UUID_SWAPPED: &str = "421f245c-7fa8-60fa-6af6-a46351ced0eb\n";
const OTHER_UUID: &str = "d0df4c54-4ecb-4a4b-9954-5bdf3ed5c3b8\n";

/// Waits until the service has ended with this code.
#[track_caller]
fn expect_ended(host: &Machine<'_>, code: &str) {
    crate::eventually("the end of the service", || {
        let show =
            "systemctl show --value --property=ExecMainStatus --property=ActiveState monsys-agent";
        let shown = host.run_ok(show);
        shown.contains(code) && shown.contains("failed")
    });
}

#[test]
fn a_booted_copy_never_speaks_as_the_original() {
    let lan = Lan::new();
    let hub = lan.hub();
    let disk = Disk::debian("bookworm", "web-1");
    disk.write("etc/test-uuid", UUID);
    let script = disk.write("etc/test-firmware", FIRMWARE);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(script, mode).unwrap();
    disk.write("etc/systemd/system/test-firmware.service", UNIT);
    crate::one_liner::trust(&hub, &disk);
    let agent = disk.path("usr/local/bin/monsys-agent");
    std::fs::copy(crate::prepared::program(), &agent).unwrap();

    let host = lan.boot(&disk);
    host.run_ok("systemctl enable --now --quiet test-firmware");
    host.run_with(
        &[("MONSYS_TOKEN", &hub.token())],
        "monsys-agent install --hub-url https://192.0.2.1:8443",
    )
    .expect(0);
    crate::one_liner::expect_in_service(&hub, &host);
    let state = "grep -c product_uuid_swapped /var/lib/monsys/state.json";
    assert_ne!(host.run(state).stdout.trim(), "0", "the UUID is not known");
    host.power_off();

    // The firmware reports the other byte order: the same host.
    disk.write("etc/test-uuid", UUID_SWAPPED);
    let host = lan.boot(&disk);
    crate::one_liner::expect_in_service(&hub, &host);
    host.run_ok("monsys-agent status && runuser -u monsys -- monsys-agent status");
    host.power_off();

    let copy = disk.copy("web-2");
    copy.write("etc/test-uuid", OTHER_UUID);
    let clone = lan.boot(&copy);
    expect_ended(&clone, "78");
    for status in [
        "monsys-agent status",
        "runuser -u monsys -- monsys-agent status",
    ] {
        let ran = clone.run(status).expect(78);
        assert!(ran.stdout.contains("cloned from"), "{status}: {ran:?}");
    }
    assert_eq!(hub.agents().len(), 1);
    let heard = hub.agents()[0]["last_heartbeat"].clone();
    let code = clone.run("runuser -u monsys -- monsys-agent run").code;
    assert_eq!(code, 78);
    assert_eq!(hub.agents()[0]["last_heartbeat"], heard);
    clone
        .run_with(&[("MONSYS_TOKEN", &hub.token())], "monsys-agent enrol")
        .expect(0);
    clone.run_ok("systemctl restart monsys-agent");
    crate::one_liner::expect_in_service(&hub, &clone);
    assert_eq!(hub.agents().len(), 2);
}
