//! The takeover of a tree that an older release gave to the service's user: the identity stays, and no planted
//! value is trusted.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use serde_json::{Value, json};

use crate::common::{SERVICE_USER, TestHost, TestHub, until};

const STATE: &str = "var/lib/monsys";
const CONFIG: &str = "etc/monsys/agent.toml";

/// Makes a host of an older release.
fn older(hub: &TestHub) -> TestHost {
    let host = TestHost::with_service_user();
    host.enrol(hub, &hub.token()).run().expect(0);
    let note = format!(
        "{{\"agent_id\":\"{}\",\"interval_secs\":30}}",
        host.key("agent_id").unwrap()
    );
    host.write_file("var/lib/monsys/heartbeat.json", &note);
    let mut paths = vec![host.path("etc/monsys"), host.path(STATE)];
    paths.extend(host.files("etc/monsys").into_iter().map(|(path, _)| path));
    paths.extend(host.files(STATE).into_iter().map(|(path, _)| path));
    for path in paths {
        chown(&path, Some(SERVICE_USER), Some(SERVICE_USER)).unwrap();
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    host
}

fn step(host: &TestHost, hub: Option<&TestHub>) -> (Value, String) {
    let mut prepared = host.agent(&["prepare", "--output", "json"]);
    let ca_file = hub.and_then(|hub| host.install_ca(hub));
    if let (Some(hub), Some(ca_file)) = (hub, ca_file) {
        prepared = prepared
            .env("MONSYS_HUB_URL", &hub.url())
            .env("MONSYS_CA_FILE", ca_file.to_str().unwrap());
    }
    let run = prepared.run().expect(0);
    (run.json(), run.stderr)
}

#[track_caller]
fn expect_roots(host: &TestHost) {
    for folder in ["etc/monsys", STATE] {
        assert_eq!(
            fs::metadata(host.path(folder)).unwrap().uid(),
            0,
            "{folder}"
        );
        for (path, _) in host.files(folder) {
            assert_eq!(
                fs::symlink_metadata(&path).unwrap().uid(),
                0,
                "{}",
                path.display()
            );
        }
    }
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn a_takeover_preserves_the_identity_and_drops_paths_and_urls() {
    let hub = TestHub::new();
    let host = older(&hub);
    let id = host.key("agent_id");
    let key = fs::read(host.path("var/lib/monsys/agent-signing.key")).unwrap();
    let text = format!(
        "# A comment.\nmine = 'kept'\ntoken_command = 'touch /ran'\nstate_dir = '/etc'\n{}",
        host.agent_toml()
    );
    fs::write(host.path(CONFIG), text).unwrap();
    let (report, log) = step(&host, None);
    for word in [
        "taking over",
        "hub_url",
        "token_command",
        "state_dir",
        "ca_file",
    ] {
        assert!(log.contains(word), "no {word} in\n{log}");
    }
    expect_roots(&host);
    assert_eq!(host.key("agent_id"), id);
    assert_eq!(host.key("mine").unwrap(), "kept");
    // Stored for the operator, who may want them back.
    let dropped = format!("# dropped: hub_url = \"{}\"", hub.url());
    assert!(
        host.agent_toml().contains(&dropped),
        "{}",
        host.agent_toml()
    );
    assert!(host.agent_toml().contains("# A comment."));
    for key in ["hub_url", "ca_file", "token_command", "state_dir"] {
        assert_eq!(host.key(key), None, "{key}");
    }
    assert_eq!(
        fs::read(host.path("var/lib/monsys/agent-signing.key")).unwrap(),
        key
    );
    assert_eq!(host.mode(STATE), 0o750);
    assert_eq!(host.mode("var/lib/monsys/agent-signing.key"), 0o640);
    assert!(!host.path("var/lib/monsys/heartbeat.json").exists());
    // No credential is sent to a hub that root did not name.
    assert_eq!(report["service_exit_code"], 78, "{report}");
    assert!(
        report["failure"]["hint"]
            .as_str()
            .unwrap()
            .contains("--hub-url")
    );

    // The operator names the hub and its CA, and the host is the same agent.
    host.enrol(&hub, "").run().expect(0);
    assert_eq!(host.key("hub_url").unwrap(), hub.url());
    assert_eq!(step(&host, None).0["result"], "ready");
    // The repeated step may have sent one too.
    let captured_at = || hub.agents()[0]["last_heartbeat"]["captured_at"].clone();
    let sent_before = captured_at();
    let service = host.unprivileged_service();
    until("a heartbeat of the service", || {
        captured_at() != sent_before
    });
    service.stop().expect(0);
    hub.expect_one_slot();
}

/// Editors on other systems write both.
#[test]
#[ignore = "needs root: gives files to other users"]
fn a_takeover_preserves_the_byte_order_mark_and_the_line_ends() {
    let hub = TestHub::new();
    let host = older(&hub);
    let text = format!("\u{feff}# A comment.\n{}", host.agent_toml());
    fs::write(host.path(CONFIG), text.replace('\n', "\r\n")).unwrap();
    step(&host, None);
    expect_roots(&host);
    let text = fs::read_to_string(host.path(CONFIG)).unwrap();
    assert!(text.starts_with("\u{feff}agent_id"), "{text:?}");
    for line in ["# A comment.\r\n", "# dropped: hub_url = "] {
        assert!(text.contains(line), "no {line} in {text:?}");
    }
    let ends = text.matches('\n').count();
    assert_eq!(text.matches("\r\n").count(), ends, "{text:?}");
    // Still TOML, with the same identity.
    assert!(host.key("agent_id").is_some());
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn a_hub_of_the_command_line_is_stored() {
    let hub = TestHub::new();
    let host = older(&hub);
    let (report, log) = step(&host, Some(&hub));
    assert_eq!(report["result"], "ready", "{log}");
    assert_eq!(host.key("hub_url").unwrap(), hub.url());
    expect_roots(&host);
    hub.expect_one_slot();
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn a_planted_file_of_another_type_is_rejected_and_named() {
    let hub = TestHub::new();
    for name in ["agent-signing.key", "state.json", "agent-id", "agent.toml"] {
        for kind in ["link", "hard link", "pipe"] {
            let host = older(&hub);
            let folder = if name == "agent.toml" {
                "etc/monsys"
            } else {
                STATE
            };
            let path = host.path(folder).join(name);
            let victim = host.write_file("root/victim", "0123456789abcdef0123456789abcdef");
            fs::remove_file(&path).unwrap();
            match kind {
                "link" => symlink(&victim, &path).unwrap(),
                "hard link" => fs::hard_link(&victim, &path).unwrap(),
                _ => {
                    let made = std::process::Command::new("mkfifo").arg(&path).status();
                    assert!(made.unwrap().success());
                }
            }
            if kind != "hard link" {
                std::os::unix::fs::lchown(&path, Some(SERVICE_USER), Some(SERVICE_USER)).unwrap();
            }
            let (report, _) = step(&host, None);
            assert_eq!(report["service_exit_code"], 78, "{kind} {name}: {report}");
            // The service does not use what root rejected, although its user owns the files.
            let run = host.agent(&["run"]).by_user(SERVICE_USER).run();
            assert!([73, 78].contains(&run.code), "{kind} {name}: {run:?}");
            let failure = report["failure"].to_string();
            // A hard link to root's file is root's file: its content is rejected, or is not a secret.
            if kind != "hard link" {
                assert!(failure.contains(name), "{kind} {name}: {failure}");
            }
            let there = fs::symlink_metadata(&victim).unwrap();
            assert_eq!(
                (there.uid(), there.mode() & 0o7777),
                (0, 0o644),
                "{kind} {name}"
            );
            assert_eq!(
                fs::read(&victim).unwrap(),
                b"0123456789abcdef0123456789abcdef"
            );
        }
    }
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn install_takes_over_and_other_commands_print_how() {
    let hub = TestHub::new();
    let host = older(&hub);
    host.write_file("usr/lib/systemd/systemd", "");
    host.agent(&["enrol"])
        .run()
        .expect(78)
        .expect_stderr(&["monsys-agent prepare"]);
    host.agent(&["install", "--no-enrol"]).run().expect(0);
    expect_roots(&host);
    host.enrol(&hub, "").run().expect(0);
    hub.expect_one_slot();
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn a_planted_pending_key_is_not_followed_as_root() {
    let hub = TestHub::new();
    let seed = "0123456789abcdef0123456789abcdef";
    for place in ["relative", "absolute", "there"] {
        let host = older(&hub);
        let path = host.path("etc/planted");
        if place == "there" {
            host.write_file("etc/planted", seed);
        }
        let name = match place {
            "absolute" => path.to_str().unwrap(),
            _ => "../../../etc/planted",
        };
        // A copy of another machine's disk makes a new key at the path in the state.
        let state = json!({
            "fingerprint": { "machine_id": "another" },
            "next": { "key_file": name, "machine": {} },
        });
        let file = host.path("var/lib/monsys/state.json");
        fs::write(&file, state.to_string()).unwrap();
        step(&host, Some(&hub));
        let wrong = "enrl_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefg";
        host.enrol_with(&hub, wrong, &["--force"]).run().expect(77);
        match place {
            "there" => assert_eq!(fs::read_to_string(&path).unwrap(), seed),
            _ => assert!(!path.exists(), "{place}: root made {}", path.display()),
        }
    }
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn a_planted_step_record_blocks_nothing() {
    let hub = TestHub::new();
    let host = older(&hub);
    host.write_file("usr/lib/systemd/systemd", "");
    let file = host.path("var/lib/monsys/state.json");
    let mut state: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    state["step"] = json!({
        "boot_id": boot_id.trim(),
        "at": "9999-01-01T00:00:00Z",
        "not_before": "9999-01-01T00:00:00Z",
        "failure": { "id": "unreachable", "subject": null, "cause": "planted", "hint": "planted" },
    });
    fs::write(&file, state.to_string()).unwrap();
    host.agent(&["install", "--no-enrol"]).run().expect(0);
    assert!(!fs::read_to_string(&file).unwrap().contains("planted"));
    host.enrol(&hub, "").run().expect(0);
    assert_eq!(step(&host, None).0["result"], "ready");
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn a_takeover_happens_once() {
    let hub = TestHub::new();
    let host = older(&hub);
    let other = host.write_file("var/lib/monsys/.bash_history", "ls");
    chown(&other, Some(SERVICE_USER), Some(SERVICE_USER)).unwrap();
    let (_, log) = step(&host, Some(&hub));
    assert!(log.contains("taking over") && log.contains(".bash_history"));
    let (report, log) = step(&host, Some(&hub));
    assert_eq!(report["result"], "ready");
    assert!(!log.contains("taking over"), "{log}");
    assert!(other.exists());
}

/// The hub is preserved if the service's environment names it, and the rest is dropped.
#[test]
#[ignore = "needs root: gives files to other users"]
fn an_enrolment_restores_dropped_settings() {
    let hub = TestHub::new();
    let host = older(&hub);
    step(&host, Some(&hub));
    assert!(host.key("hub_url").is_some() && host.key("ca_file").is_none());
    let again = || host.enrol(&hub, "").run().expect(0);
    again();
    assert!(host.key("ca_file").is_some(), "{}", host.agent_toml());
    assert_eq!(step(&host, None).0["result"], "ready");
    // The repeated step may have sent one too.
    let captured_at = || hub.agents()[0]["last_heartbeat"]["captured_at"].clone();
    let sent_before = captured_at();
    let service = host.unprivileged_service();
    until("a heartbeat of the service", || {
        captured_at() != sent_before
    });
    service.stop().expect(0);
    assert!(again().stdout.contains("has confirmed it"));
    hub.expect_one_slot();
}

#[test]
#[ignore = "needs root: gives files to other users"]
fn unenrol_force_works_without_a_known_hub() {
    let hub = TestHub::new();
    let host = older(&hub);
    step(&host, None);
    host.agent(&["unenrol"])
        .run()
        .expect(78)
        .expect_stderr(&["--hub-url"]);
    host.agent(&["unenrol", "--force"]).run().expect(0);
    assert_eq!(host.key("agent_token"), None);
    assert!(!host.path("var/lib/monsys/agent-signing.key").exists());
}

/// The owner of a folder can grant access to files made there, and the grant outlives the ownership.
#[test]
#[ignore = "needs root: gives files to other users"]
fn an_access_control_list_is_not_taken_over() {
    let hub = TestHub::new();
    let host = older(&hub);
    let entry = |tag: u16, rights: u16, id: u32| {
        [
            &tag.to_le_bytes()[..],
            &rights.to_le_bytes(),
            &id.to_le_bytes(),
        ]
        .concat()
    };
    let none = u32::MAX;
    let list = [
        2_u32.to_le_bytes().to_vec(),
        entry(0x01, 7, none),
        entry(0x02, 7, 65_534),
        entry(0x04, 5, none),
        entry(0x10, 7, none),
        entry(0x20, 0, none),
    ]
    .concat();
    let lists = ["system.posix_acl_default", "system.posix_acl_access"];
    for folder in ["etc/monsys", STATE] {
        for name in lists {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(host.path(folder), name, &list, flags).unwrap();
        }
    }
    step(&host, Some(&hub));
    host.enrol(&hub, "").run().expect(0);
    let files = [CONFIG, "var/lib/monsys/agent-signing.key"];
    for path in ["etc/monsys", STATE].into_iter().chain(files) {
        for name in lists {
            let mut there = [0; 256];
            let got = rustix::fs::getxattr(host.path(path), name, &mut there[..]);
            assert!(got.is_err(), "{path} has {name}");
        }
    }
    assert_eq!((host.mode(STATE), host.mode("etc/monsys")), (0o750, 0o755));
}

/// The service's user removed the credential, so that the next token would be sent to the next configured hub.
/// It is sent only to a hub that root named.
#[test]
#[ignore = "needs root: gives files to other users"]
fn no_token_is_sent_to_a_default_hub_after_a_takeover() {
    let hub = TestHub::new();
    for text in ["hub_url = 'https://127.0.0.1:9'\n", "# nothing\n"] {
        let host = older(&hub);
        fs::write(host.path(CONFIG), text).unwrap();
        for name in ["agent-signing.key", "agent-id", "state.json"] {
            fs::remove_file(host.path(STATE).join(name)).unwrap();
        }
        let enrol =
            |arguments: &[&str]| host.agent(arguments).env("MONSYS_TOKEN", "enrl_secret123");
        let report = enrol(&["prepare", "--output", "json"])
            .run()
            .expect(0)
            .json();
        assert_eq!(report["failure"]["id"], "config-broken", "{report}");
        enrol(&["enrol"])
            .run()
            .expect(78)
            .expect_stderr(&["--hub-url URL"]);
        host.enrol(&hub, &hub.token()).run().expect(0);
        enrol(&["enrol"]).run().expect(0);
    }
}
