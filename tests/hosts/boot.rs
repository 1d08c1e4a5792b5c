//! The harness of the other tests: boot, reboot and power loss.

use crate::disk::Disk;
use crate::lan::Lan;

#[test]
fn heartbeats_continue_after_a_reboot_and_a_power_loss() {
    let lan = Lan::new();
    let disk = Disk::debian("bookworm", "web-1");
    let host = lan.boot(&disk);
    assert_eq!(host.run_ok("hostname").trim(), "web-1");
    assert_eq!(host.run_ok("systemctl is-system-running").trim(), "running");
    host.run_ok("echo kept > /var/kept; sync");
    let host = host.reboot();
    assert_eq!(host.run_ok("cat /var/kept"), "kept\n");
    let host = host.pull_plug();
    assert_eq!(host.run_ok("cat /var/kept"), "kept\n");
    host.power_off();
    assert_eq!(disk.read("var/kept"), "kept\n");
}
