//! A host of an autoscaling group: it unenrols when it is powered off, and only then.

use crate::disk::Disk;
use crate::lan::Lan;
use crate::one_liner::{ONE_LINER, expect_in_service, trust};

#[test]
fn an_ephemeral_host_unenrols_at_power_off_but_not_at_reboot_or_restart() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::debian("bookworm", "web-1");
    trust(&hub, &disk);
    let host = lan.boot(&disk);
    let line = format!("{ONE_LINER} -s -- --ephemeral");
    host.run_with(&[("MONSYS_TOKEN", &token)], &line).expect(0);
    expect_in_service(&hub, &host);
    host.run_ok("systemctl restart monsys-agent");
    expect_in_service(&hub, &host);
    let host = host.reboot();
    expect_in_service(&hub, &host);
    hub.expect_one_slot();
    host.power_off();
    assert_eq!(hub.agents().len(), 0, "the host is still listed by the hub");
    assert!(!disk.read("etc/monsys/agent.toml").contains("agt_"));
}
