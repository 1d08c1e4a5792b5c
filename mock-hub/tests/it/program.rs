//! The program: its one line of output, its end, and its errors at start.

use crate::clients::{Agent, Caller, Host};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use tokio::task::JoinSet;

pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mock-hub"));
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A running hub, killed if its test fails.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    ready: Value,
}

impl Running {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::of(&mut program(args))
    }

    /// Starts the hub by this command.
    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        let ready = serde_json::from_str(&line).expect("one line of JSON");
        Self {
            child,
            stdout,
            ready,
        }
    }

    pub(crate) fn caller(&self) -> Caller {
        let text = |field: &str| self.ready[field].as_str();
        let ca_file = text("ca_file").map(Path::new);
        Caller::new(
            text("url").expect("a URL"),
            ca_file,
            text("admin_token").expect("a token"),
        )
    }

    /// Ends the hub, and returns its log. The exit code must be 0, with no further output.
    pub(crate) fn end(mut self, signal: Signal) -> String {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("a signal");
        let mut log = String::new();
        self.child
            .stderr
            .take()
            .expect("a pipe")
            .read_to_string(&mut log)
            .expect("a log");
        assert!(self.child.wait().expect("an end").success(), "{log}");
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("the rest");
        assert_eq!(rest, "");
        log
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn refused(args: &[&str]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = program(args).output().expect("the program runs");
    assert!(!status.success(), "{args:?}");
    assert!(stdout.is_empty(), "{args:?}");
    String::from_utf8(stderr).expect("text")
}

#[tokio::test]
async fn it_prints_its_address_and_ends_by_sigterm() {
    let hub = Running::start(&[]);
    let keys: Vec<&String> = hub.ready.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["admin_token", "ca_file", "ca_pin", "url"]);
    assert!(
        hub.ready["url"]
            .as_str()
            .expect("a URL")
            .starts_with("https://127.0.0.1:")
    );
    let operator = hub.caller();
    let created = operator.create_token(1, json!({})).await;
    let agent = Agent::enrol(&Host::new(), &operator, &created.token).await;
    // A token in a path is a mistake that the log must not repeat.
    operator
        .get(&format!("/api/v1/enrolment-tokens/{}", created.token))
        .await;
    let (ca_file, admin_token) = (
        hub.ready["ca_file"].clone(),
        hub.ready["admin_token"].clone(),
    );

    let log = hub.end(Signal::SIGTERM);
    assert!(
        log.contains("POST /api/v1/agents/enrol 201 127.0.0.1"),
        "{log}"
    );
    for token in [
        &created.token,
        &agent.token,
        admin_token.as_str().expect("a token"),
    ] {
        assert!(!log.contains(token));
    }
    assert!(!Path::new(ca_file.as_str().expect("a path")).exists());
}

#[tokio::test]
async fn plain_http_on_loopback_and_an_end_by_sigint() {
    let hub = Running::start(&["--http"]);
    assert!(
        hub.ready["url"]
            .as_str()
            .expect("a URL")
            .starts_with("http://127.0.0.1:")
    );
    assert_eq!(
        (&hub.ready["ca_file"], &hub.ready["ca_pin"]),
        (&Value::Null, &Value::Null)
    );
    // An open connection and a slow request do not delay the end.
    let operator = hub.caller();
    operator
        .fault(json!({"route": "enrol", "delay_ms": 600_000}))
        .await;
    let slow = tokio::spawn(
        Host::new()
            .registration(&operator, "enrol", "enrl_x")
            .send(),
    );
    while operator.get("/api/v1/faults").await.1["faults"] != json!([]) {
        tokio::task::yield_now().await;
    }
    hub.end(Signal::SIGINT);
    assert!(slow.await.expect("no panic").is_err());
}

#[tokio::test]
async fn it_is_the_same_hub_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
    let (tls, database, admin) = (path("tls"), path("hub.db"), path("admin-token"));
    let args = [
        "--tls-dir",
        &tls,
        "--database",
        &database,
        "--admin-token-file",
        &admin,
    ];
    let first = Running::start(&args);
    let created = first.caller().create_token(1, json!({})).await;
    let ready = first.ready.clone();
    first.end(Signal::SIGTERM);
    assert_eq!(
        fs::metadata(&admin).expect("a file").permissions().mode() & 0o777,
        0o600
    );

    let second = Running::start(&args);
    for field in ["ca_file", "ca_pin", "admin_token"] {
        assert_eq!(second.ready[field], ready[field], "{field}");
    }
    Agent::enrol(&Host::new(), &second.caller(), &created.token).await;
    second.end(Signal::SIGTERM);
}

#[tokio::test]
async fn confirmed_enrolments_survive_sigkill() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
    let (database, admin) = (path("hub.db"), path("admin-token"));
    let args = [
        "--http",
        "--database",
        &database,
        "--admin-token-file",
        &admin,
    ];
    let hub = Running::start(&args);
    let operator = Arc::new(hub.caller());
    let created = operator.create_token(30, json!({})).await;
    let mut hosts = JoinSet::new();
    for _ in 0..40 {
        let (operator, token) = (Arc::clone(&operator), created.token.clone());
        hosts.spawn(async move { Host::new().enrol(&operator, &token).await });
    }
    let answers = hosts.join_all().await;
    // By SIGKILL.
    drop(hub);

    let enrolled: Vec<&Value> = answers
        .iter()
        .filter_map(|(status, body)| (*status == 201).then_some(body))
        .collect();
    assert_eq!(enrolled.len(), 30, "no more than the token's uses");
    let hub = Running::start(&args);
    let operator = hub.caller();
    assert_eq!(operator.uses(&created).await, (30, 30));
    assert_eq!(operator.agent_count().await, 30);
    for body in enrolled {
        let id = body["agent_id"].as_str().expect("an id");
        assert_eq!(operator.get(&format!("/api/v1/agents/{id}")).await.0, 200);
    }
    hub.end(Signal::SIGTERM);
}

#[tokio::test]
async fn a_trusted_proxy_is_given_as_a_flag() {
    let hub = Running::start(&[
        "--trusted-proxy",
        "10.0.0.0/8",
        "--trusted-proxy",
        "127.0.0.1",
    ]);
    let operator = hub.caller();
    let request = operator
        .request(Method::GET, "/healthz")
        .header("X-Forwarded-For", "192.0.2.1");
    assert_eq!(request.send().await.expect("an answer").status(), 200);
    assert!(
        hub.end(Signal::SIGTERM)
            .contains("GET /healthz 200 192.0.2.1")
    );
}

#[test]
fn a_bad_flag_is_explained() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
    let (no_database, empty) = (path("no-database"), path("empty"));
    fs::write(
        &no_database,
        "this file is not a database, and never was one of any kind",
    )
    .expect("a file");
    fs::write(&empty, "").expect("a file");
    for (args, what, next) in [
        (&["--listen", "somewhere"][..], "--listen", "--help"),
        (&["--trusted-proxy", "10.0.0.0/40"], "10.0.0.0/40", "--help"),
        (
            &["--public-url", "hub.example.com"],
            "https://hub.example.com or",
            "--help",
        ),
        (&["--no-such-flag"], "--no-such-flag", "--help"),
        (&["--http", "--tls-dir", "x"], "--tls-dir", "--help"),
        (
            &["--http", "--listen", "0.0.0.0:0"],
            "unencrypted",
            "leave out --http",
        ),
        (
            &["--listen", "192.0.2.1:0"],
            "listening on 192.0.2.1:0",
            "give --listen",
        ),
        (
            &["--database", "/nowhere/hub.db"],
            "/nowhere/hub.db",
            "give --database",
        ),
        (
            &["--database", &no_database],
            "not a database",
            "give --database",
        ),
        (
            &["--tls-dir", "/proc/nowhere"],
            "/proc/nowhere",
            "give --tls-dir",
        ),
        (&["--revocations", "x"], "--receipt-key", "--help"),
        (
            &["--receipt-key", "/nowhere/receipt.key"],
            "/nowhere/receipt.key",
            "give --receipt-key",
        ),
        (
            &["--receipt-key", &empty],
            "other users can read",
            "give --receipt-key",
        ),
        (&["--dist", "/nowhere/dist"], "/nowhere/dist", "give --dist"),
        (
            &["--admin-token-file", "/nowhere/token"],
            "/nowhere/token",
            "give --admin-token-file",
        ),
        (
            &["--admin-token-file", &empty],
            "too short",
            "give --admin-token-file",
        ),
    ] {
        let said = refused(args);
        assert!(
            said.contains(what) && said.contains(next),
            "{args:?}: {said}"
        );
    }
}

#[test]
fn a_taken_port_is_explained() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let said = refused(&["--listen", &address]);
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
}
