//! Machines with a product UUID that only root reads, as root and as the service's user.
//!
//! A tmpfs over `/sys/class` in a mount namespace stands for the firmware.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::common::{Prepared, Run, SERVICE_USER, TestHost, TestHub, needs_root, until};

const UUID: &str = "5c241f42-a87f-fa60-6af6-a46351ced0eb";
const UUID_SWAPPED: &str = "421f245c-7fa8-60fa-6af6-a46351ced0eb";
const OTHER_UUID: &str = "d0df4c54-4ecb-4a4b-9954-5bdf3ed5c3b8";
const OTHER_MACHINE_ID: &str = "fedcba9876543210fedcba9876543210\n";

/// Runs a command as root or as the service's user, on a machine with this product UUID, mode 0400.
fn on(uuid: &str, is_root: bool, command: Prepared) -> Run {
    let script = format!(
        "mount -t tmpfs firmware /sys/class && mkdir -p /sys/class/dmi/id && \
         echo {uuid} >/sys/class/dmi/id/product_uuid && chmod 400 /sys/class/dmi/id/product_uuid && exec \"$@\""
    );
    let mut unshare = Command::new("/usr/bin/unshare");
    unshare.args(["--mount", "/bin/sh", "-ec", &script, "sh"]);
    if !is_root {
        let user = SERVICE_USER.to_string();
        unshare.args([
            "setpriv",
            "--reuid",
            &user,
            "--regid",
            &user,
            "--clear-groups",
        ]);
    }
    command
        .under(&mut unshare)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .run()
}

fn state(host: &TestHost, uuid: &str, is_root: bool) -> (i32, Value) {
    let run = on(uuid, is_root, host.agent(&["status", "--output", "json"]));
    (run.code, run.json()["state"].clone())
}

fn fingerprint(host: &TestHost) -> Value {
    let text = fs::read_to_string(host.path("var/lib/monsys/state.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["fingerprint"].clone()
}

fn prepare(host: &TestHost, uuid: &str) -> Value {
    let run = on(uuid, true, host.agent(&["prepare", "--output", "json"]));
    run.expect(0).json()
}

/// Enrols a host on the machine with [`UUID`].
fn enrolled(hub: &TestHub) -> TestHost {
    needs_root();
    let host = TestHost::with_service_user();
    on(UUID, true, host.enrol(hub, &hub.token())).expect(0);
    host
}

fn is_silent(hub: &TestHub) -> bool {
    hub.agents()
        .iter()
        .all(|agent| agent["last_heartbeat"].is_null())
}

#[test]
#[ignore = "needs root: mounts a tmpfs over /sys/class"]
fn a_cold_clone_never_speaks_as_the_original() {
    let hub = TestHub::new();
    let original = enrolled(&hub);
    prepare(&original, UUID);
    let clone = original.copy();
    // As after a boot: the record is that of the original's boot.
    let path = clone.path("var/lib/monsys/state.json");
    let mut copied: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    copied["step"]["boot_id"] = json!("of the original");
    fs::write(&path, copied.to_string()).unwrap();
    on(OTHER_UUID, false, clone.agent(&["run"])).expect(85);
    assert_eq!(state(&clone, OTHER_UUID, true), (78, json!("clone")));
    on(OTHER_UUID, true, clone.agent(&["enrol"])).expect(64);
    let step = prepare(&clone, OTHER_UUID);
    assert_eq!(step["service_exit_code"], 78, "{step}");
    // The service's user has root's result.
    assert_eq!(state(&clone, OTHER_UUID, false), (78, json!("clone")));
    on(OTHER_UUID, false, clone.agent(&["run"])).expect(78);
    assert!(is_silent(&hub));
    on(OTHER_UUID, true, clone.enrol(&hub, &hub.token())).expect(0);
    assert_eq!(hub.agents().len(), 2);
    assert_ne!(clone.key("agent_id"), original.key("agent_id"));
    prepare(&clone, OTHER_UUID);
    for is_root in [true, false] {
        assert_eq!(state(&clone, OTHER_UUID, is_root), (0, json!("enrolled")));
        assert_eq!(state(&original, UUID, is_root), (0, json!("enrolled")));
    }
}

#[test]
#[ignore = "needs root: mounts a tmpfs over /sys/class"]
fn changes_of_one_id_are_not_clones() {
    let hub = TestHub::new();
    for (name, uuid, file) in [
        ("firmware update", UUID_SWAPPED, None),
        (
            "machine-id",
            UUID,
            Some(("etc/machine-id", OTHER_MACHINE_ID)),
        ),
        (
            "instance id",
            UUID,
            Some(("run/cloud-init/.instance-id", "7b0d5ad8\n")),
        ),
        (
            "container moved",
            OTHER_UUID,
            Some(("run/.containerenv", "")),
        ),
    ] {
        let host = enrolled(&hub);
        host.write_file("run/cloud-init/.instance-id", "6a0d5ad8\n");
        if name == "container moved" || name == "machine-id" {
            fs::remove_file(host.path("run/cloud-init/.instance-id")).unwrap();
        }
        prepare(&host, UUID);
        if let Some((path, text)) = file {
            host.write_file(path, text);
        }
        assert_eq!(state(&host, uuid, true), (0, json!("enrolled")), "{name}");
        on(uuid, true, host.agent(&["enrol"])).expect(0);
        assert_eq!(prepare(&host, uuid)["result"], "ready", "{name}");
        assert_eq!(state(&host, uuid, false), (0, json!("enrolled")), "{name}");
        let doctor = on(uuid, true, host.agent(&["doctor", "--output", "json"]));
        assert!(
            doctor.stdout.contains("enrolled at"),
            "{name}: {}",
            doctor.stdout
        );
        let before = fingerprint(&host);
        on(uuid, true, host.agent(&["enrol"])).expect(0);
        assert_eq!(fingerprint(&host), before, "{name}");
    }
    let ids: std::collections::BTreeSet<_> = hub
        .agents()
        .iter()
        .map(|agent| agent["agent_id"].to_string())
        .collect();
    assert_eq!((ids.len(), hub.spent()), (4, 4));
}

#[test]
#[ignore = "needs root: mounts a tmpfs over /sys/class"]
fn ids_that_appear_later_are_added() {
    let hub = TestHub::new();
    let host = TestHost::with_service_user();
    fs::remove_file(host.path("etc/machine-id")).unwrap();
    let no_uuid = "Not Settable";
    on(no_uuid, true, host.enrol(&hub, &hub.token())).expect(0);
    let is_blank = fingerprint(&host);
    assert!(is_blank["machine_id"].is_null() && is_blank["product_uuid"].is_null());
    host.write_file("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    on(no_uuid, true, host.agent(&["enrol"])).expect(0);
    assert!(fingerprint(&host)["machine_id"].is_string());
    prepare(&host, UUID);
    assert!(fingerprint(&host)["product_uuid"].is_string());
    let copy = host.copy();
    copy.write_file("etc/machine-id", OTHER_MACHINE_ID);
    assert_eq!(state(&copy, OTHER_UUID, true), (78, json!("clone")));
    // A broken state names the machine again at the next run of root.
    host.write_file("var/lib/monsys/state.json", "\0\0\0\0");
    on(UUID, true, host.agent(&["enrol"])).expect(0);
    assert!(fingerprint(&host)["product_uuid"].is_string());
    hub.expect_one_slot();
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn a_service_whose_machine_changes_requests_the_step() {
    let hub = TestHub::new();
    let host = TestHost::with_service_user();
    host.enrol(&hub, &hub.token()).run().expect(0);
    host.agent(&["prepare"]).run().expect(0);
    let service = host.unprivileged_service();
    until("a heartbeat", || !is_silent(&hub));
    host.write_file("etc/machine-id", OTHER_MACHINE_ID);
    service.signal(Signal::SIGHUP);
    service.end().expect(85);
    // Root's step decides: without a product UUID, this is another machine.
    let step = host.agent(&["prepare", "--output", "json"]).run().expect(0);
    assert_eq!(step.json()["service_exit_code"], 78);
    host.agent(&["run"])
        .by_user(SERVICE_USER)
        .run()
        .expect(78)
        .expect_stderr(&["cloned from"]);
}
