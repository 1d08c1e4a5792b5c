//! Hosts whose `/usr/local` and `/opt` are read-only, and removals that cannot be complete.

use std::path::PathBuf;

use serde_json::json;

use super::{differences, scene, settings, with};
use crate::disk::Disk;
use crate::lan::Lan;
use crate::machine::Machine;
use crate::one_liner::expect_in_service;

/// The program on a host whose `/usr/local` and `/opt` are read-only.
const PROGRAM: &str = "var/opt/monsys/bin/monsys-agent";

/// Makes `/usr/local` and `/opt` read-only until the next boot.
fn remount_read_only(host: &Machine<'_>) {
    host.run_ok(
        "for place in /usr/local /opt; do
          mount --bind $place $place && mount -o remount,bind,ro $place
        done",
    );
}

/// Also covers one form of the version for a mirror.
#[test]
fn a_read_only_host_is_enrolled_and_nothing_of_it_stays() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::debian("bookworm", "web-1");
    let (host, controller) = scene(&lan, &disk, &[]);
    remount_read_only(&host);
    let fresh = disk.entries();
    let mut settings = with(settings(&hub), "monsys_agent_method", "auto");
    settings["monsys_agent_mirror_url"] = json!(hub.url());
    settings["monsys_agent_binary"] = json!("");
    settings["monsys_agent_version"] = json!(concat!(env!("CARGO_PKG_VERSION"), "-1"));

    controller.role(&token, &settings, &[]).expect_success();
    expect_in_service(&hub, &host);
    hub.expect_one_slot();
    assert!(disk.exists(PROGRAM));
    let again = controller.role("", &settings, &[]).expect_success();
    assert_eq!(again.changed("web-1"), 0, "{}", again.output);

    let mut gone = with(settings, "monsys_agent_state", "absent");
    gone["monsys_agent_purge"] = json!(true);
    controller.role("", &gone, &[]).expect_success();
    assert_eq!(differences(&fresh, &disk.entries()), Vec::<PathBuf>::new());
    assert_eq!(hub.agents().len(), 0);
}

/// The record of the installation stays as long as what it describes, and the play says what that is.
#[test]
fn a_removal_without_the_program_fails_and_loses_no_record() {
    const RECORD: &str = "var/lib/monsys/install.json";
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::debian("bookworm", "web-1");
    let (host, controller) = scene(&lan, &disk, &[]);
    let settings = settings(&hub);
    let fresh = disk.entries();
    controller.role(&token, &settings, &[]).expect_success();
    let mut gone = with(settings.clone(), "monsys_agent_state", "absent");
    gone["monsys_agent_purge"] = json!(true);
    gone["monsys_agent_unenrol"] = json!(false);

    // Nobody can run it, its file was removed, and then its unit too: what stays is the user, which only
    // the record names.
    let unit = "etc/systemd/system/monsys-agent.service";
    let cases = [
        (
            "chmod 644 /usr/local/bin/monsys-agent",
            "/usr/local/bin/monsys-agent, /etc/systemd/system/monsys-agent.service",
        ),
        (
            "rm /usr/local/bin/monsys-agent",
            "/etc/systemd/system/monsys-agent.service",
        ),
        (
            "systemctl disable --now monsys-agent; rm /etc/systemd/system/monsys-agent.service",
            "the user monsys",
        ),
    ];
    for (line, remains) in cases {
        host.run_ok(line);
        for options in [&["--check"][..], &[]] {
            controller.role("", &gone, options).expect_failure(&[
                "error: without the program, these cannot be removed",
                remains,
                "cause: ",
                "hint: install the program again",
            ]);
            assert!(disk.exists(RECORD), "{line}");
        }
    }
    // The hint is true.
    controller.role("", &settings, &[]).expect_success();
    assert!(disk.exists(unit));
    gone["monsys_agent_unenrol"] = json!(true);
    controller.role("", &gone, &[]).expect_success();
    assert_eq!(differences(&fresh, &disk.entries()), Vec::<PathBuf>::new());
    assert_eq!(hub.agents().len(), 0);
}
