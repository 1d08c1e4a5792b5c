//! A host enrols by a fifth dialect, which is one crate and one line in `src/dialects.rs`: the real binary, built
//! with the feature `example-dialect`, against a server of the invented system over TLS.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};

const SECRET: &str = "s3cret-of-the-example";

/// Tokens by host name.
type Tokens = Arc<Mutex<BTreeMap<String, String>>>;

/// A server of the system.
struct Server {
    runtime: tokio::runtime::Runtime,
    hub: Option<hub::Hub>,
    tokens: Tokens,
}

impl Server {
    fn start() -> Self {
        let tokens = Tokens::default();
        let issued = Arc::clone(&tokens);
        let issue = move |headers: HeaderMap, body: String| {
            let issued = Arc::clone(&issued);
            async move { answer(&issued, &headers, &body) }
        };
        let extension = hub::Extension {
            routes: Box::new(|_, routes: Router| routes.route("/v1/tokens", post(issue))),
            ..hub::Extension::default()
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let hub = runtime
            .block_on(hub::start(hub::Options::default(), extension))
            .unwrap();
        Self {
            runtime,
            hub: Some(hub),
            tokens,
        }
    }

    fn hub(&self) -> &hub::Hub {
        self.hub.as_ref().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.take() {
            self.runtime.block_on(hub.stop());
        }
    }
}

fn answer(issued: &Tokens, headers: &HeaderMap, body: &str) -> (StatusCode, String) {
    if headers["authorization"] != format!("Bearer {SECRET}") {
        return (StatusCode::UNAUTHORIZED, String::new());
    }
    let body: Value = serde_json::from_str(body).unwrap();
    let name = body["hostname"].as_str().unwrap().to_owned();
    let mut issued = issued.lock().unwrap();
    let count = issued.len();
    let token = issued.entry(name).or_insert(format!("token-{count}"));
    (StatusCode::OK, json!({"token": token}).to_string())
}

fn agent(root: &Path, server: &Server, arguments: &[&str], secret: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_monsys-agent"));
    command
        .args(arguments)
        .arg("--root")
        .arg(root)
        .env_clear()
        .env("EXAMPLE_SERVER", server.hub().url())
        .env("MONSYS_CA_FILE", server.hub().ca_file().unwrap())
        .env("AWS_EC2_METADATA_DISABLED", "true");
    if let Some(secret) = secret {
        command.env("EXAMPLE_SECRET", secret);
    }
    command.output().unwrap()
}

#[test]
fn a_host_enrols_by_a_dialect_of_one_crate_and_one_line() {
    let server = Server::start();
    let root = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], secret| agent(root.path(), &server, arguments, secret);
    let code = |output: &Output| output.status.code();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();

    assert_eq!(code(&run(&["status"], None)), Some(78));
    let none = run(&["enrol"], None);
    assert_eq!(code(&none), Some(64));
    assert!(text(&none.stderr).contains("EXAMPLE_SECRET"), "{none:?}");
    let wrong = run(&["enrol"], Some("wrong"));
    assert_eq!(code(&wrong), Some(77), "{wrong:?}");
    assert!(!text(&wrong.stderr).contains("wrong\""), "{wrong:?}");
    let dry = run(&["enrol", "--dry-run", "--output", "json"], Some(SECRET));
    let dry: Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!(dry["request"]["path"], "/v1/tokens");
    assert!(server.tokens.lock().unwrap().is_empty());

    let enrolled = run(&["enrol"], Some(SECRET));
    assert_eq!(code(&enrolled), Some(0), "{enrolled:?}");
    let path = root.path().join("etc/example/token.json");
    let written: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(
        written,
        json!({"server": server.hub().url(), "token": "token-0"})
    );
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(code(&run(&["status"], None)), Some(0));
    let again = run(&["enrol", "--output", "json"], Some(SECRET));
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["result"], "already_enrolled");
    assert_eq!(server.tokens.lock().unwrap().len(), 1);

    // No child process and no output has the secret, and the help lists the dialect.
    let help = run(&["enrol", "--help"], None);
    assert!(text(&help.stdout).contains("example"), "{help:?}");
    for output in [&enrolled, &wrong] {
        assert!(!text(&output.stderr).contains(SECRET));
    }
}
