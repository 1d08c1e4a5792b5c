//! The install record: what `uninstall` restores by it, and records that are lost or not to be trusted.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use crate::service::{AGENT, UNIT, agent, fixture};

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_replaced_file_is_restored() {
    let (machine, hub) = fixture();
    machine.write_file(UNIT, "# somebody's own\n");
    machine.program(&AGENT[1..], "#!/bin/sh\necho somebody's own\n");
    let before = machine.changes();
    // A failure before the enrolment restores the file, and so does the uninstallation.
    machine.write_file("run/broken", "");
    let arguments = ["install", "--no-enrol"];
    agent(&machine, &hub, "/root/monsys-agent", &arguments).expect(74);
    fs::remove_file(machine.path("run/broken")).unwrap();
    assert_eq!(
        fs::read_to_string(machine.path(UNIT)).unwrap(),
        "# somebody's own\n"
    );
    let text = agent(&machine, &hub, "/root/monsys-agent", &["install"])
        .expect(0)
        .stdout;
    assert!(
        text.contains("keep the existing file as /usr/local/bin/monsys-agent.monsys-kept"),
        "{text}"
    );
    agent(&machine, &hub, AGENT, &["uninstall", "--purge"]).expect(0);
    assert_eq!(machine.changes(), before);
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_changed_file_stays_unless_purged() {
    let (machine, hub) = fixture();
    let before = machine.changes();
    agent(&machine, &hub, "/root/monsys-agent", &["install"]).expect(0);
    let unit = fs::read_to_string(machine.path(UNIT)).unwrap();
    machine.write_file(UNIT, unit + "# mine\n");
    let run = agent(
        &machine,
        &hub,
        "/root/monsys-agent",
        &["uninstall", "--output", "json"],
    )
    .expect(0);
    let report = run.json();
    assert_eq!(report["left"][0]["what"], format!("/{UNIT}"));
    assert_eq!(report["left"][0]["cause"], "somebody has changed it since");
    let preserved: Vec<&Value> = report["kept"].as_array().unwrap().iter().collect();
    assert_eq!(preserved.len(), 4, "{preserved:?}");
    assert!(machine.path(UNIT).exists());
    // The install record still lists what is left.
    agent(
        &machine,
        &hub,
        "/root/monsys-agent",
        &["uninstall", "--purge"],
    )
    .expect(0);
    assert_eq!(machine.changes(), before);
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn an_install_record_that_the_service_could_have_written_is_rejected() {
    let (machine, hub) = fixture();
    agent(&machine, &hub, "/root/monsys-agent", &["install"]).expect(0);
    let record = machine.path("var/lib/monsys/install.json");
    let victim = machine.write_file("etc/victim", "precious");
    let digest = ring::digest::digest(&ring::digest::SHA256, b"precious");
    let sum = digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    let mut forged: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    let actions = forged["done"].as_array_mut().unwrap();
    actions.push(json!({"did": "put_file", "path": "/etc/victim", "sha256": [sum], "kept": null}));
    fs::remove_file(&record).unwrap();
    fs::write(&record, forged.to_string()).unwrap();
    let service = fs::metadata(machine.path("var/lib/monsys")).unwrap().gid();
    std::os::unix::fs::chown(&record, Some(service), None).unwrap();
    let before = machine.changes();
    for command in ["install", "uninstall"] {
        agent(&machine, &hub, AGENT, &[command])
            .expect(78)
            .expect_stderr(&["the install record is broken", "can write the file"]);
    }
    assert_eq!(machine.changes(), before);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    // A install record that root wrote would have removed it.
    std::os::unix::fs::chown(&record, Some(0), None).unwrap();
    agent(&machine, &hub, AGENT, &["uninstall"]).expect(0);
    assert!(!victim.exists());
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_lost_install_record_is_reported_and_written_again() {
    let (machine, hub) = fixture();
    let before = machine.changes();
    agent(&machine, &hub, "/root/monsys-agent", &["install"]).expect(0);
    fs::remove_file(machine.path("var/lib/monsys/install.json")).unwrap();
    let refused = |arguments: &[&str]| {
        agent(&machine, &hub, AGENT, arguments)
            .expect(78)
            .expect_stderr(&[UNIT, "monsys-agent install --no-enrol --no-start"]);
        machine.changes()
    };
    assert_eq!(refused(&["uninstall"]), refused(&["uninstall", "--purge"]));
    assert!(machine.path(UNIT).exists());
    let again = ["install", "--no-enrol", "--no-start"];
    agent(&machine, &hub, AGENT, &again).expect(0);
    // The second run finds everything in its install record.
    let run = agent(&machine, &hub, AGENT, &again).expect(0);
    assert!(run.stdout.contains("Nothing to change"), "{}", run.stdout);
    agent(&machine, &hub, AGENT, &["uninstall", "--purge"]).expect(0);
    let left = machine.changes();
    let left: Vec<_> = left
        .keys()
        .filter(|path| !before.contains_key(*path) && path.to_string_lossy().contains("monsys"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
