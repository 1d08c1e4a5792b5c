//! Doors for the fuzz targets (`fuzz/`) to what is private. For nobody else.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::dialect::mimir::certificate::Certificate;
use crate::dialect::mimir::key::HostKey;
use crate::dialect::{lyftdata, mimir, ravenxcope};
use crate::doctor::metadata;
use crate::error::{Error, Result};
use crate::facts::{fingerprint, hostname, interfaces};
use crate::hub::client::Reply;
use crate::hub::tls;
use crate::hub::verdict::{self, Outcome};
use crate::identity::Identity;
use crate::install::receipt::Receipt;
use crate::scrub;
use crate::service::Health;
use crate::service::hub_clock::HubClock;
use crate::settings::{Flags, Settings};
use crate::store::agent_toml::AgentToml;
use crate::world::World;

/// `PRETTY_NAME` of an os-release file, made printable.
#[must_use]
pub fn os_release_name(bytes: &[u8]) -> Option<String> {
    crate::facts::os_release::name_in(bytes)
}

/// How long a `Retry-After` asks to wait.
#[must_use]
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    crate::hub::client::retry_after(value, now)
}

/// An `agent.toml` with this text.
///
/// # Errors
/// Those of [`AgentToml::load`].
pub fn agent_toml(path: &Path, text: &str) -> Result<AgentToml> {
    AgentToml::of(path, text.to_owned().into())
}

/// The settings of a host whose `agent.toml` has this text.
///
/// # Errors
/// Those of [`Settings::resolve`].
pub fn settings(flags: &Flags, world: &World, path: &Path, text: &str) -> Result<Settings> {
    Settings::with_file(flags, world, path, &agent_toml(path, text)?)
}

/// The public key of a signing key file and the signature of `body`, both base64. `None` when the
/// bytes are not a key.
#[must_use]
pub fn signing_key(bytes: &[u8], body: &[u8]) -> Option<[String; 2]> {
    let identity = Identity::from_seed(bytes)?;
    Some([identity.public_key(), identity.sign(body)])
}

/// The bytes of an install record as the agent writes them. `None` for a broken record.
#[must_use]
pub fn install_record(bytes: &[u8]) -> Option<Vec<u8>> {
    let record: Receipt = serde_json::from_slice(bytes).ok()?;
    serde_json::to_vec(&record).ok()
}

/// Adds a failed heartbeat to the health file's content.
pub fn heartbeat_failed(health: &mut Health, error: &Error, now: SystemTime) {
    health.missed(error, &crate::world::clock::Moment::of_wall(now));
}

/// A call whose response [`response`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Enrolment at a `RavenXcope` backend.
    RavenxcopeEnrol,
    /// Heartbeat to a `RavenXcope` backend.
    RavenxcopeHeartbeat,
    /// Enrolment at a Mimir server.
    MimirEnrol,
    /// Proof of a certificate to a Mimir server.
    MimirProof,
    /// Enrolment at a `LyftData` server, by the name `web-1`.
    LyftdataEnrol,
    /// Heartbeat to a monsys hub.
    MonsysHeartbeat,
}

/// The fields of a response that is accepted, by their names in it; or the error of any other one.
///
/// # Errors
/// What the hub refused, or what is wrong with its response.
pub fn response(call: Call, reply: Reply) -> Result<Vec<(&'static str, String)>> {
    const URL: &str = "https://hub.example";
    let outcome = match call {
        Call::RavenxcopeEnrol => ravenxcope::wire::judge(URL, Ok(reply), |reply| {
            let credential = ravenxcope::wire::admitted(reply)?;
            let seconds = credential.interval.as_secs().to_string();
            Ok(vec![
                ("sensorToken", credential.token.expose_secret().to_owned()),
                ("heartbeatIntervalSeconds", seconds),
            ])
        }),
        Call::RavenxcopeHeartbeat => ravenxcope::wire::judge(URL, Ok(reply), |_| Ok(Vec::new())),
        Call::MimirEnrol => verdict::judge(URL, Ok(reply), |reply| {
            let certified = mimir::wire::certified(reply)?;
            Ok(vec![
                ("agent_id", certified.agent_id),
                ("certificate_pem", certified.certificate_pem),
                ("ca_pem", certified.ca_pem),
            ])
        }),
        Call::MimirProof => verdict::judge(URL, Ok(reply), |reply| {
            Ok(vec![("agent_id", mimir::wire::known_as(reply)?)])
        }),
        Call::LyftdataEnrol => verdict::judge(URL, Ok(reply), |reply| {
            let worker = lyftdata::asking::accepted(reply, "web-1")?;
            Ok(vec![
                ("worker", worker.id),
                ("api_key", worker.api_key.to_string()),
            ])
        }),
        Call::MonsysHeartbeat => match verdict::judge_empty(URL, Ok(reply)) {
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

/// The stamp (RFC 3339) of a heartbeat at `later`, after a hub has refused one at `now` and
/// given its own time as `date`.
#[must_use]
pub fn stamp_by_hub(date: SystemTime, now: SystemTime, later: SystemTime) -> String {
    let mut clock = HubClock::default();
    let refusal = Reply {
        status: 409,
        date: Some(date),
        ..Reply::default()
    };
    clock.learn(&refusal, now);
    crate::world::clock::rfc3339_millis(clock.at(later))
}

/// When a client certificate is to be renewed, and when it expires.
///
/// # Errors
/// What is wrong with the PEM file.
pub fn certificate_times(pem: &[u8]) -> std::result::Result<[SystemTime; 2], String> {
    let certificate = Certificate::from_pem(pem)?;
    Ok([certificate.renew_at(), certificate.expires_at()])
}

/// Checks a client certificate for a public key, with the CA that came with it.
///
/// # Errors
/// What is wrong with one of them.
pub fn check_certificate(
    pem: &[u8],
    public_key: &[u8],
    ca_pem: &[u8],
    now: SystemTime,
) -> std::result::Result<(), String> {
    Certificate::from_pem(pem)?.check(public_key, ca_pem, now)
}

/// The public key of a client key's PEM file (`SubjectPublicKeyInfo`, DER), and the file as the agent
/// writes it.
#[must_use]
pub fn client_key(pem: &[u8]) -> Option<(Vec<u8>, String)> {
    let key = HostKey::from_pem(pem)?;
    Some((key.public(), key.to_pem().to_string()))
}

/// The pins of the certificates in a CA file.
///
/// # Errors
/// What is wrong with the file.
pub fn ca_pins(pem: &[u8]) -> std::result::Result<Vec<String>, &'static str> {
    let anchors = tls::anchors_in(pem)?;
    Ok(anchors
        .iter()
        .map(|anchor| tls::spki_pin(anchor).to_string())
        .collect())
}

/// The fingerprint, hashed, of an instance id, a product UUID and a machine-id.
#[must_use]
pub fn machine_ids(text: &str) -> [Option<String>; 3] {
    let hash = |kind, id: Option<String>| id.map(|id| fingerprint::hash(kind, &id));
    [
        hash("instance-id", fingerprint::instance_id(text)),
        hash("product-uuid", fingerprint::product_uuid(text)),
        hash("machine-id", fingerprint::machine_id(text)),
    ]
}

/// The host's name in a file of it.
#[must_use]
pub fn hostname(text: &str) -> Option<String> {
    hostname::usable(text)
}

/// Bytes received and sent by an interface, of `/proc/net/dev`.
#[must_use]
pub fn traffic(text: &str, interface: &str) -> Option<(u64, u64)> {
    interfaces::bytes(text, interface)
}

/// Whether a `/proc/self/cgroup` says that cloud-init runs the process.
#[must_use]
pub fn is_run_by_cloud_init(groups: &str) -> bool {
    crate::cloud_init::is_run_by_cloud_init(groups)
}

/// Whether a metadata service's response holds an enrolment token. `None` when it has no user data.
#[must_use]
pub fn metadata_holds_token(reply: &Reply, is_base64: bool) -> Option<bool> {
    match metadata::said(reply, is_base64) {
        metadata::Answer::Data(bytes) => Some(scrub::has_token(&bytes)),
        metadata::Answer::Nothing | metadata::Answer::Silent => None,
    }
}
