//! `enrol` on a host that is enrolled already: exit 0 means that the hub has confirmed it in this run.

use std::io::Read;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::common::{TestHost, TestHub};

/// The files of the host. The lock holds the process that took it last.
fn files(host: &TestHost) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = host.files("");
    files.retain(|(path, _)| !path.ends_with("lock"));
    files
}

#[test]
fn the_hub_confirms_an_enrolled_host_and_no_file_changes() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    let before = files(&host);
    let run = host
        .agent(&["enrol", "--output", "json"])
        .env("MONSYS_TOKEN", "enrl_another")
        .run()
        .expect(0);
    let report = run.json();
    assert_eq!(report["result"], "already_enrolled");
    assert_eq!(report["confirmed"], true);
    assert_eq!(report["changed"], false);
    assert_eq!(report["changes"], json!([]));
    assert_eq!(files(&host), before);
    hub.expect_one_slot();
}

#[test]
fn without_an_answer_an_unchanged_host_is_75_and_a_change_is_69() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    let wait = ["--wait", "1s"];
    let enrol = |arguments: &[&str]| host.agent(&[&["enrol"], arguments, &wait].concat());
    let stored = host.path("etc/ssl/hub-ca.pem");
    let copy = host.write_file(
        "tmp/the-same-ca.pem",
        &std::fs::read_to_string(stored).unwrap(),
    );
    let before = files(&host);
    drop(hub);
    let copy = copy.to_str().unwrap();
    for unchanged in [&[][..], &["--ca-file", copy], &["--output", "json"]] {
        let run = enrol(unchanged).run().expect(75);
        run.expect_stderr(&["did not confirm the enrolment in this run", "--offline"]);
    }
    let report = enrol(&["--output", "json"]).run().expect(75).json();
    assert_eq!(report["confirmed"], false);
    assert_eq!(report["result"], "already_enrolled");
    assert_eq!(report["error"]["id"], "not-confirmed");
    enrol(&["--tag", "other"]).run().expect(69);
    enrol(&["--role", "other"]).run().expect(69);
    let offline = host
        .agent(&["enrol", "--offline", "--output", "json"])
        .run()
        .expect(0);
    assert_eq!(offline.json()["confirmed"], false);
    host.agent(&["enrol", "--offline", "--tag", "other"])
        .run()
        .expect(64);
    TestHost::new()
        .agent(&["enrol", "--offline"])
        .run()
        .expect(78);
    assert_eq!(files(&host), before);
}

#[test]
fn each_change_of_an_enrolled_host_is_reported() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol_with(&hub, &hub.token(), &["--tags", "shard-9,blue"])
        .run()
        .expect(0);
    let run = host
        .agent(&["enrol", "--tag", "extra", "--role", "db"])
        .run();
    let run = run.expect(0);
    for part in [
        "tags added: extra",
        "tags removed: shard-9, blue",
        "role: db, was web",
    ] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
    hub.expect_one_slot();
}

#[test]
fn a_hub_url_that_was_edited_gets_no_credential() {
    let (hub, other, host) = (TestHub::new(), TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    let text = host.agent_toml().replace(&hub.url(), &other.url());
    host.write_file("etc/monsys/agent.toml", &text);
    for command in [&["enrol"][..], &["run"]] {
        let run = host.agent(command).run().expect(78);
        run.expect_stderr(&["goes to no other hub", "--hub-url"]);
    }
    // The command of the hint asks the hub that it names.
    let ca_file = other.ca_file().unwrap();
    let ca_file = ca_file.to_str().unwrap();
    host.agent(&["enrol", "--hub-url", &other.url(), "--ca-file", ca_file])
        .run()
        .expect(77)
        .expect_stderr(&["does not know this host any more", &other.url()]);
}

/// A variable of the hub's URL that was left behind, or belongs to another program, sends the credential
/// nowhere: another hub could use what it reads.
#[test]
fn a_variable_that_names_another_hub_sends_it_no_credential() {
    let hub = TestHub::new();
    let host = TestHost::new();
    host.enrol(&hub, &hub.token()).run().expect(0);
    let before = host.agent_toml();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let url = format!("http://{}", other.local_addr().unwrap());
    for command in [
        &["run"][..],
        &["unenrol", "--wait", "0"],
        &["unenrol", "--force", "--wait", "0"],
        &["rotate-key"],
        &["rotate-token"],
        &["enrol"],
        &["enrol", "--force"],
    ] {
        let agent = host.agent(command).env("MONSYS_HUB_URL", &url);
        let agent = match command {
            ["rotate-token"] => agent.env("MONSYS_TOKEN", "agt_new"),
            _ => agent,
        };
        agent
            .run()
            .expect(64)
            .expect_stderr(&["MONSYS_HUB_URL", &hub.url(), &url, "hint"]);
    }
    let error = other.accept().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    // `doctor` connects, and does not show the credential.
    let received = recorded(other);
    let doctor = host.agent(&["doctor"]).env("MONSYS_HUB_URL", &url).run();
    assert!(
        doctor.stdout.contains("FAIL  credential"),
        "{}",
        doctor.stdout
    );
    let received = String::from_utf8_lossy(&received.lock().unwrap()).into_owned();
    assert!(received.contains(" HTTP/1.1"), "{received}");
    assert!(!received.contains("agt_"), "{received}");
    assert_eq!(host.agent_toml(), before);
    // The same hub in another spelling is not another hub.
    host.agent(&["enrol"])
        .env("MONSYS_HUB_URL", &format!("{}/", hub.url()))
        .run()
        .expect(0);
}

/// Records what each connection sends, and closes the connection then.
fn recorded(listener: TcpListener) -> Arc<Mutex<Vec<u8>>> {
    let received = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&received);
    listener.set_nonblocking(false).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = vec![0; 64 * 1024];
            let length = stream.read(&mut bytes).unwrap_or_default();
            record.lock().unwrap().extend_from_slice(&bytes[..length]);
        }
    });
    received
}

#[test]
fn a_host_that_was_renamed_is_known_by_its_new_name_after_a_confirmation() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    host.write_file("host-hostname", "named-later\n");
    host.agent(&["enrol"]).run().expect(0);
    let agents = hub.agents();
    assert_eq!(agents.len(), 1);
    assert_eq!(agents[0]["facts"]["hostname"], "named-later", "{agents:?}");
}
