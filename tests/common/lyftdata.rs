//! A `LyftData` server, as its admin sees it, and a worker of it.

use serde_json::{Value, json};

use super::hub::text;
use super::{Prepared, TestHost, TestHub};

/// The shared secret, as `openssl rand -hex 32` prints one.
pub(crate) const SECRET: &str = "5ec12e7a5ec12e7a5ec12e7a5ec12e7a5ec12e7a5ec12e7a5ec12e7a5ec12e7a";
/// Where a worker's files are.
pub(crate) const JOBS: &str = "var/lib/lyftdata-worker";
/// The two files.
pub(crate) const FILES: [&str; 2] = [".LYFTDATA_WORKER_API_KEY", "LYFTDATA_WORKER_ID"];

/// A server with auto enrollment on.
pub(crate) fn server() -> TestHub {
    let hub = TestHub::new();
    configure(
        &hub,
        json!({"enabled": true, "enrollment_secret": SECRET, "enrollment_api_key": null}),
    );
    hub
}

/// The admin's call.
#[track_caller]
pub(crate) fn configure(hub: &TestHub, body: Value) -> Value {
    hub.post("/api/workers/auto-enrollment", body)
}

/// Ids and names of the workers.
pub(crate) fn workers(hub: &TestHub) -> Vec<(String, String)> {
    let workers = hub.get("/api/workers");
    let workers = workers.as_array().unwrap().iter();
    workers
        .map(|worker| (text(&worker["worker"]), text(&worker["name"])))
        .collect()
}

/// A worker's file.
pub(crate) fn file(host: &TestHost, name: &str) -> String {
    std::fs::read_to_string(host.path(JOBS).join(name)).unwrap()
}

/// A command in the environment of the system's own documentation.
pub(crate) fn worker(host: &TestHost, hub: &TestHub, name: &str, arguments: &[&str]) -> Prepared {
    let ca_file = host.install_ca(hub).unwrap();
    host.agent(arguments)
        .env("LYFTDATA_URL", &hub.url())
        .env("LYFTDATA_WORKER_NAME", name)
        .env("LYFTDATA_AUTO_ENROLLMENT_KEY", SECRET)
        .env("MONSYS_CA_FILE", ca_file.to_str().unwrap())
}
