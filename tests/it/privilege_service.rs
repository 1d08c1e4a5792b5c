//! The service, run by its user, and the privileged step of its boot.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::{SERVICE_USER, TestHost, TestHub, until};
use crate::privilege::{enrolled, has_heartbeat, prepare};

#[test]
#[ignore = "needs root: gives files to other users"]
fn the_service_sends_nothing_before_the_step_of_this_boot() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let run = || host.agent(&["run"]).by_user(SERVICE_USER).run();
    run()
        .expect(85)
        .expect_stderr(&["privileged step", "no step is recorded"]);
    prepare(&host);
    // As after a reboot, and on another machine with the same disk.
    let path = host.path("var/lib/monsys/state.json");
    let good = fs::read_to_string(&path).unwrap();
    let mut state: Value = serde_json::from_str(&good).unwrap();
    state["step"]["boot_id"] = json!("another");
    fs::write(&path, state.to_string()).unwrap();
    run()
        .expect(85)
        .expect_stderr(&["in another boot or on another machine"]);
    let mut state: Value = serde_json::from_str(&good).unwrap();
    state["step"]["machine"] = json!({ "machine_id": "another" });
    fs::write(&path, state.to_string()).unwrap();
    run()
        .expect(85)
        .expect_stderr(&["in another boot or on another machine"]);
    assert!(!has_heartbeat(&hub));
}

/// `ProtectProc=` of the unit gives the service a separate `/proc`. If a file is mounted over the boot id, as in
/// a container of systemd-nspawn, the step and the service read different ids.
#[test]
#[ignore = "needs root: gives files to other users"]
fn a_private_proc_does_not_hide_the_step_from_the_service() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let other = host.write_file("other-boot", "01234567-89ab-cdef-0123-456789abcdef\n");
    let mounted = format!(
        "mount --bind {} /proc/sys/kernel/random/boot_id && exec \"$@\"",
        other.display()
    );
    let mut unshare = Command::new("/usr/bin/unshare");
    unshare.args(["--mount", "/bin/sh", "-c", &mounted, "sh"]);
    let prepare = host.agent(&["prepare"]).under(&mut unshare);
    prepare
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .run()
        .expect(0);
    let service = host.unprivileged_service();
    until("a heartbeat", || has_heartbeat(&hub));
    service.stop().expect(0);
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn the_service_exits_with_the_failure_of_the_step() {
    let hub = TestHub::new();
    let host = TestHost::with_service_user();
    let report = prepare(&host);
    assert_eq!(report["result"], "failed");
    assert_eq!(report["service_exit_code"], 78);
    assert_eq!(report["failure"]["id"], "not-enrolled");
    let run = || host.agent(&["run"]).by_user(SERVICE_USER).run();
    run()
        .expect(78)
        .expect_stderr(&["not enrolled", "monsys-agent enrol"]);
    // The stored failure is not an identity: the host can still become an image.
    host.agent(&["enrol", "--defer"]).run().expect(0);
    host.enrol(&hub, &hub.token()).run().expect(0);
    assert_eq!(prepare(&host)["result"], "ready");
    let service = host.unprivileged_service();
    until("a heartbeat", || has_heartbeat(&hub));
    service.stop().expect(0);
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn an_unreachable_hub_is_retried_after_a_pause_or_a_change() {
    let hub = TestHub::new();
    let host = TestHost::with_service_user();
    host.write_file("run/token", &hub.token());
    host.enrol_with(&hub, "", &["--defer"]).run().expect(0);
    let config = host.agent_toml();
    let text = format!("{config}token_file = '/run/token'\nwait = '0s'\n");
    fs::write(host.path("etc/monsys/agent.toml"), &text).unwrap();
    hub.fault(json!({"route": "enrol", "reset": "before", "times": 1}));
    let first = prepare(&host);
    assert_eq!(first["service_exit_code"], 69, "{first}");
    host.agent(&["run"]).by_user(SERVICE_USER).run().expect(69);
    // The hub is reachable again but gets no request: restarts of a fleet must not add up.
    let second = prepare(&host);
    assert_eq!(second, first);
    assert!(hub.agents().is_empty());
    // An operator has changed the configuration.
    let change = || {
        fs::write(
            host.path("etc/monsys/agent.toml"),
            format!("{text}# changed\n"),
        )
        .unwrap();
        prepare(&host)["result"] == "ready"
    };
    until("the file system's clock to go on", change);
    hub.expect_one_slot();
}

/// A failing step would be repeated without end: the rules for permanent failures apply only to `run`.
#[test]
#[ignore = "needs root: gives files to other users"]
fn a_wrong_setting_fails_the_service_and_not_the_step() {
    let host = TestHost::with_service_user();
    for (arguments, code) in [(["prepare"], 0), (["run"], 64)] {
        let run = host.agent(&arguments).env("MONSYS_DIALECT", "monsis").run();
        run.expect(code).expect_stderr(&["MONSYS_DIALECT"]);
    }
}
