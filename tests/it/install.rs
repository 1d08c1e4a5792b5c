//! `install` and `uninstall` of a host's tree (`--root`): plan, install record and rollback.
//! `cargo xtask test installer` tests them on a complete machine.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::common::{Run, TestHost, TestHub, keys};

pub(crate) const UNIT: &str = "etc/systemd/system/monsys-agent.service";
pub(crate) const LINK: &str = "etc/systemd/system/multi-user.target.wants/monsys-agent.service";
pub(crate) const BINARY: &str = "usr/local/bin/monsys-agent";

/// Makes a host with systemd, which does not run, since `--root` is not a running host.
pub(crate) fn host() -> TestHost {
    let host = TestHost::new();
    host.write_file("usr/lib/systemd/systemd", "");
    host.write_file("etc/systemd/system/other.service", "");
    host.write_file("usr/local/bin/other", "");
    host.write_file("var/lib/other", "");
    host
}

pub(crate) fn install(host: &TestHost, hub: &TestHub, token: &str, more: &[&str]) -> Run {
    // Written once, since some tests compare times of modification.
    let ca_file = Some(host.path("etc/ssl/hub-ca.pem")).filter(|path| path.exists());
    let ca_file = ca_file.or_else(|| host.install_ca(hub)).unwrap();
    let url = hub.url();
    let arguments = [
        "install",
        "--hub-url",
        &url,
        "--ca-file",
        ca_file.to_str().unwrap(),
    ];
    host.agent(&[&arguments, more].concat())
        .env("MONSYS_TOKEN", token)
        .run()
}

/// Returns path, permissions, owner and content of every file.
pub(crate) fn tree(host: &TestHost) -> Vec<(PathBuf, u32, u32, Vec<u8>)> {
    let files = host.files("").into_iter().map(|(path, bytes)| {
        let metadata = fs::symlink_metadata(&path).unwrap();
        (path, metadata.mode(), metadata.uid(), bytes)
    });
    let mut tree: Vec<_> = files.collect();
    let mut folders = vec![host.path("")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                let metadata = entry.metadata().unwrap();
                folders.push(entry.path());
                tree.push((entry.path(), metadata.mode(), metadata.uid(), Vec::new()));
            }
        }
    }
    tree.sort();
    tree
}

/// Returns the modification time of each file and folder.
fn times(host: &TestHost) -> Vec<(PathBuf, SystemTime)> {
    let time = |path: PathBuf| {
        let time = fs::symlink_metadata(&path).unwrap().modified().unwrap();
        (path, time)
    };
    // Each run takes the lock, which holds the id of its process.
    let paths = tree(host).into_iter().map(|entry| entry.0);
    paths
        .filter(|path| !path.ends_with("lock"))
        .map(time)
        .collect()
}

#[test]
fn a_dry_run_lists_every_change_and_makes_none() {
    let host = host();
    let before = times(&host);
    let arguments = ["install", "--no-enrol", "--dry-run", "--output", "json"];
    let report = host.agent(&arguments).run().expect(0).json();
    assert_eq!(
        keys(&report),
        [
            "binary",
            "changed",
            "changes",
            "install_record",
            "not_done",
            "result",
            "version"
        ]
    );
    assert_eq!(report["result"], "dry_run");
    assert_eq!(report["changed"], false);
    let planned: Vec<(&str, &str)> = report["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            (
                change["do"].as_str().unwrap(),
                change["path"].as_str().unwrap(),
            )
        })
        .collect();
    let absolute = |path: &str| format!("/{path}");
    assert_eq!(
        planned,
        [
            ("make_folder", "/var/lib/monsys"),
            ("make_folder", "/etc/monsys"),
            ("put_file", &absolute(BINARY)),
            ("put_file", &absolute(UNIT)),
            ("make_folder", "/etc/systemd/system/multi-user.target.wants"),
            ("link", &absolute(LINK)),
        ]
    );
    let text = host.agent(&arguments[..3]).run().expect(0).stdout;
    for line in [
        "nothing was changed",
        "make the folder /var/lib/monsys (0700)",
        "write /usr/local/bin/monsys-agent (0755)",
        "Not done: the user monsys",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    assert_eq!(times(&host), before);

    // The real run makes exactly these changes.
    let done = host
        .agent(&["install", "--no-enrol", "--output", "json"])
        .run()
        .expect(0)
        .json();
    assert_eq!(done["changes"], report["changes"]);
    assert_eq!(done["enrolment"], Value::Null);
}

#[test]
fn install_enrols_and_uninstall_restores() {
    let (hub, host) = (TestHub::new(), host());
    host.install_ca(&hub);
    let before = tree(&host);
    let token = hub.token();
    let run = install(
        &host,
        &hub,
        &token,
        &["--tag", "shard-3", "--output", "json"],
    )
    .expect(0);
    let report = run.json();
    assert_eq!(
        keys(&report),
        [
            "binary",
            "changed",
            "changes",
            "enrolment",
            "install_record",
            "not_done",
            "result",
            "service",
            "version"
        ]
    );
    assert_eq!(report["result"], "installed");
    assert_eq!(report["service"], "not_started");
    assert_eq!(report["enrolment"]["result"], "enrolled");
    assert_eq!(
        report["enrolment"]["tags"],
        json!(["prod", "eu-west", "web", "shard-3"])
    );
    let agent = fs::read(crate::common::program()).unwrap();
    assert!(
        fs::read(host.path(BINARY)).unwrap() == agent,
        "not this program"
    );
    assert_eq!(host.mode(BINARY), 0o755);
    let unit = fs::read_to_string(host.path(UNIT)).unwrap();
    assert!(
        unit.contains("\nExecStart=/usr/local/bin/monsys-agent run --if-enrolled\n"),
        "{unit}"
    );
    assert_eq!(
        fs::read_link(host.path(LINK)).unwrap(),
        PathBuf::from("/").join(UNIT)
    );

    // A second run writes nothing.
    let stamps = times(&host);
    let again = install(
        &host,
        &hub,
        &token,
        &["--tag", "shard-3", "--output", "json"],
    )
    .expect(0);
    assert_eq!(again.json()["changed"], false);
    assert_eq!(again.json()["result"], "unchanged");
    assert_eq!(again.json()["enrolment"]["result"], "already_enrolled");
    assert_eq!(times(&host), stamps);

    // The identity stays, so that the host can enrol again as the same agent.
    let report = host
        .agent(&["uninstall", "--output", "json"])
        .run()
        .expect(0)
        .json();
    assert_eq!(
        keys(&report),
        [
            "changed",
            "forgets_agent",
            "kept",
            "left",
            "result",
            "taken"
        ]
    );
    assert_eq!(report["kept"].as_array().unwrap().len(), 4);
    for path in [BINARY, UNIT, LINK] {
        assert!(fs::symlink_metadata(host.path(path)).is_err(), "{path}");
    }
    host.agent(&["status"]).run().expect(0);
    install(&host, &hub, "", &[]).expect(0);
    hub.expect_one_slot();

    // As the role and the boot scripts leave it.
    host.write_file("etc/monsys/hub-ca.pem", "a CA");
    let report = host
        .agent(&["uninstall", "--purge", "--output", "json"])
        .run()
        .expect(0)
        .json();
    assert_eq!(report["left"], json!([]));
    assert_eq!(report["forgets_agent"], true);
    assert_eq!(tree(&host), before);
    let nothing = host
        .agent(&["uninstall", "--purge", "--output", "json"])
        .run()
        .expect(0);
    assert_eq!(nothing.json()["changed"], false);
    assert_eq!(tree(&host), before);
}

#[test]
fn no_token_is_written_anywhere() {
    let (hub, host) = (TestHub::new(), host());
    let token = hub.token();
    let secret = token.strip_prefix("enrl_").unwrap();
    let mut seen = String::new();
    for more in [&["-vvv", "--wait", "1s"][..], &["-vvv", "--output", "json"]] {
        if more.contains(&"--wait") {
            hub.fault(json!({"route": "enrol", "status": 422, "body": format!("{{\"message\":\"bad {token}\"}}")}));
        }
        let run = install(&host, &hub, &token, more);
        seen.push_str(&run.stdout);
        seen.push_str(&run.stderr);
    }
    assert!(seen.contains("TRACE") && seen.contains("agent_id"));
    assert!(!seen.contains(secret));
    for (path, bytes) in host.files("") {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(secret), "{}", path.display());
    }
    let run = host
        .agent(&["install", "--token", "enrl_verysecret"])
        .run()
        .expect(64);
    assert!(!format!("{}{}", run.stdout, run.stderr).contains("verysecret"));
}

#[test]
fn paths_of_flags_reach_the_service() {
    let (hub, host) = (TestHub::new(), host());
    let token = hub.token();
    let paths = ["--config", "/srv/m/agent.toml", "--state-dir", "/srv/state"];
    let before = tree(&host).len();
    install(&host, &hub, &token, &paths).expect(0);
    let drop_in = host.path("etc/systemd/system/monsys-agent.service.d/50-paths.conf");
    let text = fs::read_to_string(drop_in).unwrap();
    assert!(
        text.contains(
            "Environment=\"MONSYS_CONFIG=/srv/m/agent.toml\" \"MONSYS_STATE_DIR=/srv/state\""
        ),
        "{text}"
    );
    assert!(host.path("srv/state/agent-signing.key").exists());
    let purge = [&["uninstall", "--purge"][..], &paths[..2]].concat();
    host.agent(&purge).run().expect(0);
    // The hub's CA was written by the test.
    assert_eq!(tree(&host).len(), before + 2);
}

#[test]
fn hosts_without_systemd_are_supported() {
    let openrc = TestHost::new();
    openrc.write_file("sbin/openrc-run", "");
    openrc.agent(&["install", "--no-enrol"]).run().expect(0);
    assert_eq!(openrc.mode("etc/init.d/monsys-agent"), 0o755);
    let link = fs::read_link(openrc.path("etc/runlevels/default/monsys-agent")).unwrap();
    assert_eq!(link, PathBuf::from("/etc/init.d/monsys-agent"));

    let (hub, bare) = (TestHub::new(), TestHost::new());
    let token = hub.token();
    let arguments = ["--ephemeral", "--output", "json"];
    let report = install(&bare, &hub, &token, &arguments).expect(0).json();
    assert_eq!(report["service"], "none");
    let not_done: Vec<&Value> = report["not_done"].as_array().unwrap().iter().collect();
    assert_eq!(not_done[0]["what"], "the service");
    assert_eq!(
        not_done[0]["hint"],
        "configure the service manager of this host to run: /usr/local/bin/monsys-agent run"
    );
    assert_eq!(not_done[1]["what"], "--ephemeral");
    hub.expect_one_slot();
}
