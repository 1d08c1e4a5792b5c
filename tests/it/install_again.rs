//! `install` of a host's tree (`--root`) more than once: at the same time, and as an upgrade.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Child;

use serde_json::{Value, json};

use crate::common::{Run, TestHub};
use crate::install::{BINARY, UNIT, host};

#[test]
fn two_installations_at_once_run_in_sequence() {
    let (hub, host) = (TestHub::new(), host());
    let ca_file = host.install_ca(&hub).unwrap();
    let token = hub.token();
    hub.fault(json!({"route": "enrol", "times": 1, "delay_ms": 300}));
    let url = hub.url();
    let start = || -> Child {
        let ca_file = ca_file.to_str().unwrap();
        host.agent(&[
            "install",
            "--hub-url",
            &url,
            "--ca-file",
            ca_file,
            "--output",
            "json",
        ])
        .env("MONSYS_TOKEN", &token)
        .start()
    };
    let (one, other) = (start(), start());
    let results = [one, other].map(|child| Run::of(child).expect(0).json()["changed"].clone());
    assert!(
        results.contains(&json!(true)) && results.contains(&json!(false)),
        "{results:?}"
    );
    hub.expect_one_slot();
}

#[test]
fn an_upgrade_replaces_only_unchanged_files() {
    let host = host();
    host.agent(&["install", "--no-enrol"]).run().expect(0);
    let inode = |path: &str| fs::metadata(host.path(path)).unwrap().ino();
    let (binary, unit) = (inode(BINARY), inode(UNIT));
    // A unit of an older agent, by its install record.
    let old = "# an older unit\n";
    let record = host.path("var/lib/monsys/install.json");
    let text = fs::read_to_string(&record).unwrap();
    let mut known: Value = serde_json::from_str(&text).unwrap();
    let path = format!("/{UNIT}");
    for change in known["done"].as_array_mut().unwrap() {
        if change["path"] == path.as_str() {
            let digest = ring::digest::digest(&ring::digest::SHA256, old.as_bytes());
            let hex = digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").unwrap();
                hex
            });
            change["sha256"] = json!([hex]);
        }
    }
    fs::write(&record, known.to_string()).unwrap();
    fs::write(host.path(UNIT), old).unwrap();
    let report = host
        .agent(&["install", "--no-enrol", "--output", "json"])
        .run()
        .expect(0)
        .json();
    assert_eq!(report["changes"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["changes"][0]["replaces"], "ours");
    assert_eq!(inode(BINARY), binary);
    assert_ne!(inode(UNIT), unit);
    assert_eq!(
        host.names("etc/systemd/system"),
        [
            "monsys-agent.service",
            "multi-user.target.wants",
            "other.service"
        ]
    );

    // A changed file is reported before it is replaced.
    fs::write(host.path(UNIT), "# mine\n").unwrap();
    let text = host
        .agent(&["install", "--no-enrol", "--dry-run"])
        .run()
        .expect(0)
        .stdout;
    assert!(text.contains("which somebody has changed"), "{text}");
    host.agent(&["install", "--no-enrol"]).run().expect(0);
    host.agent(&["uninstall"]).run().expect(0);
    assert!(!host.path(UNIT).exists());
}
