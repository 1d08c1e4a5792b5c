//! A `RavenXcope` backend, from its operator's view, and a sensor.

use serde_json::{Value, json};

use super::operator::text;
use super::{Prepared, TestHost, TestHub};

/// Path of the env file.
pub(crate) const FILE: &str = "etc/ravenxcope/sensor-agent.env";
/// The line that replaces that of the install token.
pub(crate) const CONSUMED: &str = "# INSTALL_TOKEN consumed during enrollment";

/// Mints an install token for the sensor.
#[track_caller]
pub(crate) fn mint(hub: &TestHub, sensor: &str) -> String {
    let minted = hub.post(&format!("/api/sensors/{sensor}/install-token"), json!({}));
    text(&minted["installToken"])
}

/// Returns the sensor's record at the backend.
pub(crate) fn sensor(hub: &TestHub, sensor: &str) -> Value {
    hub.get(&format!("/api/sensors/{sensor}"))
}

/// Returns the documented env file before the enrolment.
pub(crate) fn env_text(hub: &TestHub, sensor: &str, install_token: &str) -> String {
    let url = hub.url();
    format!("SENSOR_ID={sensor}\nINSTALL_TOKEN={install_token}\nBACKEND_URL={url}\n")
}

/// Returns the content of the env file.
pub(crate) fn file(host: &TestHost) -> String {
    std::fs::read_to_string(host.path(FILE)).unwrap_or_default()
}

/// Returns the sensor token in the env file.
pub(crate) fn sensor_token(host: &TestHost) -> Option<String> {
    let text = file(host);
    let mut tokens = text
        .lines()
        .filter_map(|line| line.strip_prefix("SENSOR_TOKEN="));
    tokens.next_back().map(str::to_owned)
}

/// Returns a command with only the backend's CA in its environment.
pub(crate) fn agent(host: &TestHost, hub: &TestHub, arguments: &[&str]) -> Prepared {
    let arguments = [arguments, &["--dialect", "ravenxcope"]].concat();
    bare(host, hub, &arguments)
}

/// Returns the same command without `--dialect`.
pub(crate) fn bare(host: &TestHost, hub: &TestHub, arguments: &[&str]) -> Prepared {
    let ca_file = host.install_ca(hub).unwrap();
    host.agent(arguments)
        .env("MONSYS_CA_FILE", ca_file.to_str().unwrap())
}
