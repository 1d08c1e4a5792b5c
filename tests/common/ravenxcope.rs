//! A `RavenXcope` backend, as its operator sees it, and a sensor of it.

use serde_json::{Value, json};

use super::hub::text;
use super::{Prepared, TestHost, TestHub};

/// Where the env file is.
pub(crate) const FILE: &str = "etc/ravenxcope/sensor-agent.env";
/// What the line of the install token becomes.
pub(crate) const CONSUMED: &str = "# INSTALL_TOKEN consumed during enrollment";

/// An install token for the sensor.
#[track_caller]
pub(crate) fn mint(hub: &TestHub, sensor: &str) -> String {
    let minted = hub.post(&format!("/api/sensors/{sensor}/install-token"), json!({}));
    text(&minted["installToken"])
}

/// The sensor, as the operator sees it.
pub(crate) fn look(hub: &TestHub, sensor: &str) -> Value {
    hub.get(&format!("/api/sensors/{sensor}"))
}

/// The env file as the documentation has it before the enrolment.
pub(crate) fn env_text(hub: &TestHub, sensor: &str, install_token: &str) -> String {
    let url = hub.url();
    format!("SENSOR_ID={sensor}\nINSTALL_TOKEN={install_token}\nBACKEND_URL={url}\n")
}

/// What the env file holds.
pub(crate) fn file(host: &TestHost) -> String {
    std::fs::read_to_string(host.path(FILE)).unwrap_or_default()
}

/// The sensor token in it.
pub(crate) fn sensor_token(host: &TestHost) -> Option<String> {
    let text = file(host);
    let mut tokens = text
        .lines()
        .filter_map(|line| line.strip_prefix("SENSOR_TOKEN="));
    tokens.next_back().map(str::to_owned)
}

/// A command with nothing in its environment but the backend's CA.
pub(crate) fn agent(host: &TestHost, hub: &TestHub, arguments: &[&str]) -> Prepared {
    let arguments = [arguments, &["--dialect", "ravenxcope"]].concat();
    bare(host, hub, &arguments)
}

/// The same without naming the system.
pub(crate) fn bare(host: &TestHost, hub: &TestHub, arguments: &[&str]) -> Prepared {
    let ca_file = host.install_ca(hub).unwrap();
    host.agent(arguments)
        .env("MONSYS_CA_FILE", ca_file.to_str().unwrap())
}
