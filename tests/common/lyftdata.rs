//! A `LyftData` server, from its admin's view, and a worker.

use serde_json::{Value, json};

use super::operator::text;
use super::{Prepared, TestHost, TestHub};

/// The shared secret, in the format of `openssl rand -hex 32`.
pub(crate) const SECRET: &str = "5ec12e7a5ec12e7a5ec12e7a5ec12e7a5ec12e7a5ec12e7a5ec12e7a5ec12e7a";
/// Folder of a worker's files.
pub(crate) const JOBS: &str = "var/lib/lyftdata-worker";
/// Names of a worker's files.
pub(crate) const FILES: [&str; 2] = [".LYFTDATA_WORKER_API_KEY", "LYFTDATA_WORKER_ID"];

/// Returns `lyftdata run worker --worker-jobs-dir /var/lib/lyftdata-worker` with the agent as the program.
pub(crate) const RUN: [&str; 4] = [
    "run",
    "worker",
    "--worker-jobs-dir",
    "/var/lib/lyftdata-worker",
];

/// Starts a server with auto enrollment on.
pub(crate) fn server() -> TestHub {
    let hub = TestHub::new();
    configure(
        &hub,
        json!({"enabled": true, "enrollment_secret": SECRET, "enrollment_api_key": null}),
    );
    hub
}

/// Sends the admin's request.
#[track_caller]
pub(crate) fn configure(hub: &TestHub, body: Value) -> Value {
    hub.post("/api/workers/auto-enrollment", body)
}

/// Returns the ids and names of the workers.
pub(crate) fn workers(hub: &TestHub) -> Vec<(String, String)> {
    let workers = hub.get("/api/workers");
    let workers = workers.as_array().unwrap().iter();
    workers
        .map(|worker| (text(&worker["worker"]), text(&worker["name"])))
        .collect()
}

/// Returns the content of a worker's file.
pub(crate) fn file(host: &TestHost, name: &str) -> String {
    std::fs::read_to_string(host.path(JOBS).join(name)).unwrap()
}

/// Returns a command with the documented environment.
pub(crate) fn worker(host: &TestHost, hub: &TestHub, name: &str, arguments: &[&str]) -> Prepared {
    let ca_file = host.install_ca(hub).unwrap();
    host.agent(arguments)
        .env("LYFTDATA_URL", &hub.url())
        .env("LYFTDATA_WORKER_NAME", name)
        .env("LYFTDATA_AUTO_ENROLLMENT_KEY", SECRET)
        .env("MONSYS_CA_FILE", ca_file.to_str().unwrap())
}
