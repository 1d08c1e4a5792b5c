//! The access of the fuzz targets (`fuzz/`) to private code. Not for any other use.

use std::path::Path;
use std::time::{Duration, SystemTime};

use agent_core::environment::Environment;
use agent_core::error::{Error, Result};
use agent_core::facts::{fingerprint, hostname, interfaces, machine_ids};
use agent_core::flags::Flags;
use agent_core::hub::client::Reply;
use agent_core::hub::response::{self, Outcome};
use agent_core::hub::tls;
use agent_core::scrub;
use agent_core::service::Health;
use agent_core::settings::Settings;
use agent_core::store::agent_toml::AgentToml;
pub use dialect_mimir::fuzzing::{certificate_times, check_certificate, client_key};
pub use dialect_monsys::fuzzing::{signing_key, stamp_by_hub};

use crate::doctor::metadata;
use crate::install::record::InstallRecord;

/// Returns `PRETTY_NAME` of an os-release file, with printable characters only.
#[must_use]
pub fn os_release_name(bytes: &[u8]) -> Option<String> {
    agent_core::facts::os_release::name_in(bytes)
}

/// Returns the wait that a `Retry-After` header requests.
#[must_use]
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    agent_core::hub::client::retry_after(value, now)
}

/// Returns an `agent.toml` with this text.
///
/// # Errors
/// Those of [`AgentToml::load`].
pub fn agent_toml(path: &Path, text: &str) -> Result<AgentToml> {
    AgentToml::of(path, text.to_owned().into())
}

/// Returns the settings of a host whose `agent.toml` has this text.
///
/// # Errors
/// Those of [`Settings::resolve`].
pub fn settings(
    flags: &Flags,
    environment: &Environment,
    path: &Path,
    text: &str,
) -> Result<Settings> {
    Settings::with_file(flags, environment, path, &agent_toml(path, text)?)
}

/// Returns the bytes of an install record as the agent writes them. Returns `None` for a broken record.
#[must_use]
pub fn install_record(bytes: &[u8]) -> Option<Vec<u8>> {
    let record: InstallRecord = serde_json::from_slice(bytes).ok()?;
    serde_json::to_vec(&record).ok()
}

/// Adds a failed heartbeat to the health file's content.
pub fn heartbeat_failed(health: &mut Health, error: &Error, now: SystemTime) {
    health.missed(error, &agent_core::clock::Moment::of_wall(now));
}

/// The request whose response [`response`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Enrolment at a `RavenXcope` backend.
    RavenxcopeEnrol,
    /// Heartbeat to a `RavenXcope` backend.
    RavenxcopeHeartbeat,
    /// Enrolment at a Mimir server.
    MimirEnrol,
    /// Proof of a certificate at a Mimir server.
    MimirProof,
    /// Enrolment at a `LyftData` server, by the name `web-1`.
    LyftdataEnrol,
    /// Heartbeat to a monsys hub.
    MonsysHeartbeat,
}

/// Returns the names and values of the fields in an accepted response.
///
/// # Errors
/// The error of a refusal, or of a response that is not valid.
pub fn response(call: Call, reply: Reply) -> Result<Vec<(&'static str, String)>> {
    const URL: &str = "https://hub.example";
    let outcome = match call {
        Call::RavenxcopeEnrol => dialect_ravenxcope::fuzzing::enrolment(URL, reply),
        Call::RavenxcopeHeartbeat => match dialect_ravenxcope::fuzzing::heartbeat(URL, reply) {
            Outcome::Done(()) => Outcome::Done(Vec::new()),
            Outcome::Stop(error) => Outcome::Stop(error),
            Outcome::Wait { error, retry_after } => Outcome::Wait { error, retry_after },
        },
        Call::MimirEnrol => dialect_mimir::fuzzing::enrolment(URL, reply),
        Call::MimirProof => dialect_mimir::fuzzing::proof(URL, reply),
        Call::LyftdataEnrol => dialect_lyftdata::fuzzing::enrolment(URL, reply, "web-1"),
        Call::MonsysHeartbeat => match response::classify_empty(URL, Ok(reply)) {
            Outcome::Done(()) => Outcome::Done(Vec::new()),
            Outcome::Stop(error) => Outcome::Stop(error),
            Outcome::Wait { error, retry_after } => Outcome::Wait { error, retry_after },
        },
    };
    match outcome {
        Outcome::Done(fields) => Ok(fields),
        Outcome::Stop(error) | Outcome::Wait { error, .. } => Err(error),
    }
}

/// Returns the pins of the certificates in a CA file.
///
/// # Errors
/// The reason why the file is not valid.
pub fn ca_pins(pem: &[u8]) -> std::result::Result<Vec<String>, String> {
    let anchors = tls::anchors_in(pem)?;
    Ok(anchors
        .iter()
        .map(|anchor| tls::spki_pin(anchor).to_string())
        .collect())
}

/// Returns the hashed fingerprint of an instance id, a product UUID and a machine-id.
#[must_use]
pub fn machine_ids(text: &str) -> [Option<String>; 3] {
    let hash = |kind, id: Option<String>| id.map(|id| fingerprint::hash(kind, &id));
    [
        hash("instance-id", machine_ids::instance_id(text)),
        hash(
            "product-uuid",
            machine_ids::product_uuid(text).map(|uuid| uuid.to_string()),
        ),
        hash("machine-id", machine_ids::machine_id(text)),
    ]
}

/// Returns the host's name in a hostname file.
#[must_use]
pub fn hostname(text: &str) -> Option<String> {
    hostname::usable(text)
}

/// Returns the bytes that an interface received and sent, from the text of `/proc/net/dev`.
#[must_use]
pub fn traffic(text: &str, interface: &str) -> Option<(u64, u64)> {
    interfaces::bytes(text, interface)
}

/// Returns true if the text of `/proc/self/cgroup` says that cloud-init runs the process.
#[must_use]
pub fn is_run_by_cloud_init(groups: &str) -> bool {
    agent_core::cloud_init::is_run_by_cloud_init(groups)
}

/// Returns true if the response of a metadata service contains an enrolment token. Returns `None` if it has
/// no user data.
#[must_use]
pub fn metadata_holds_token(reply: &Reply, is_base64: bool) -> Option<bool> {
    match metadata::user_data_in(reply, is_base64) {
        metadata::UserData::Bytes(bytes) => Some(scrub::has_token(&bytes)),
        metadata::UserData::None | metadata::UserData::Unknown => None,
    }
}
