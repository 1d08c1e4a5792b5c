//! The wire format of the monsys hub: request bodies and responses (docs/protocol.md).

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::identity::Identity;
use crate::receipt::Receipt;
use agent_core::facts::{HostFacts, Interface};
use agent_core::hub::client::{Reply, Request};
use agent_core::hub::optional::{self, Optional};
use agent_core::service::vitals::Vitals;
use agent_core::settings::HubUrl;
use agent_core::tags;
use agent_core::token::Secret;

/// Path of the enrolment.
pub const ENROL: &str = "/api/v1/agents/enrol";
/// Path of the readmission.
pub const READMIT: &str = "/api/v1/agents/readmit";
/// Path of the registration.
pub const REGISTER: &str = "/api/v1/agents/register";
/// Seconds between heartbeats when the hub names none.
const DEFAULT_INTERVAL_SECS: u64 = 30;

/// The host's description of itself: its facts, its own tags and role.
pub struct HostDescription<'a> {
    /// Facts.
    pub facts: &'a HostFacts,
    /// Hash of the machine-id.
    pub machine_id: Option<&'a str>,
    /// Own tags.
    pub tags: &'a [String],
    /// Explicit role.
    pub role: Option<&'a str>,
}

/// The hub's response to an enrolment or a registration that it accepts.
#[derive(Debug)]
pub struct Admission {
    /// The agent's id.
    pub agent_id: Uuid,
    /// A fresh per-agent token; an enrolment brings one, a registration none.
    pub agent_token: Option<Secret>,
    /// Default tags of the token that admitted the agent.
    pub default_tags: Vec<String>,
    /// Default role of that token.
    pub default_role: Option<String>,
    /// Seconds between heartbeats.
    pub heartbeat_interval_secs: u64,
    /// The hub made a new agent (201), and did not know this one before (200).
    pub is_new: bool,
    /// The hub's receipt of this admission, if it gives one.
    pub receipt: Option<Receipt>,
}

/// Returns the request for an enrolment or a registration, signed by the host's key.
#[must_use]
pub fn request<'a>(
    hub: &HubUrl,
    path: &str,
    bearer: &'a Secret,
    description: &HostDescription<'_>,
    identity: &Identity,
) -> Request<'a> {
    let body = body(description, &identity.public_key());
    Request {
        method: Method::POST,
        url: hub.join(path),
        bearer: Some(bearer),
        signature: Some(identity.sign(&body)),
        body: body.into(),
    }
}

/// Returns the request of a readmission, signed by the host's key. `at` is the time of the request by the hub's
/// clock. The hub takes each body once, so two requests must not have the same `at`.
#[must_use]
pub fn readmission<'a>(
    hub: &HubUrl,
    receipt: &Receipt,
    at: &str,
    description: &HostDescription<'_>,
    identity: &Identity,
) -> Request<'a> {
    let public_key = identity.public_key();
    let body = ReadmissionBody {
        receipt: receipt.as_str(),
        at,
        description: HostDescriptionBody::of(description, &public_key),
    };
    let body = serde_json::to_vec(&body).unwrap_or_default();
    Request {
        method: Method::POST,
        url: hub.join(READMIT),
        bearer: None,
        signature: Some(identity.sign_readmission(&hub.origin(), &body)),
        body: body.into(),
    }
}

/// Returns the request of a heartbeat, signed by the host's key.
#[must_use]
pub fn heartbeat<'a>(
    hub: &HubUrl,
    agent: Uuid,
    bearer: &'a Secret,
    vitals: &Vitals,
    identity: &Identity,
) -> Request<'a> {
    let body = HeartbeatBody {
        captured_at: &vitals.captured_at,
        agent_version: agent_core::VERSION,
        cpu_usage: vitals.cpu_usage,
        memory_used: vitals.memory_used,
        memory_total: vitals.memory_total,
        memory_percent: vitals.memory_percent,
        interfaces: vitals.interfaces.iter().map(InterfaceBody::from).collect(),
    };
    let body = serde_json::to_vec(&body).unwrap_or_default();
    Request {
        method: Method::POST,
        url: hub.join(&format!("/api/v1/agents/{agent}/heartbeat")),
        bearer: Some(bearer),
        signature: Some(identity.sign(&body)),
        body: body.into(),
    }
}

/// Returns the request to remove this agent. The signature is that of its empty body.
#[must_use]
pub fn unenrol<'a>(
    hub: &HubUrl,
    agent: Uuid,
    bearer: &'a Secret,
    identity: &Identity,
) -> Request<'a> {
    Request {
        method: Method::DELETE,
        url: hub.join(&format!("/api/v1/agents/{agent}")),
        bearer: Some(bearer),
        signature: Some(identity.sign(&[])),
        body: Vec::new().into(),
    }
}

/// Returns the body of an enrolment and of a registration.
#[must_use]
pub fn body(description: &HostDescription<'_>, public_key: &str) -> Vec<u8> {
    // Strings, numbers and lists always have a JSON form.
    serde_json::to_vec(&HostDescriptionBody::of(description, public_key)).unwrap_or_default()
}

/// Returns the facts as they are sent, field by field.
#[must_use]
pub fn facts(
    facts: &HostFacts,
    machine_id: Option<&str>,
) -> Vec<(&'static str, serde_json::Value)> {
    let host = HostBody::of(facts, machine_id);
    vec![
        ("hostname", json!(host.hostname)),
        ("os_info", json!(host.os_info)),
        ("architecture", json!(host.architecture)),
        ("kernel", json!(host.kernel)),
        ("cpus", json!(host.cpus)),
        ("memory_bytes", json!(host.memory_bytes)),
        ("primary_ip", json!(host.primary_ip)),
        ("machine_fingerprint", json!(host.machine_fingerprint)),
        ("agent_version", json!(host.agent_version)),
        ("interfaces", json!(host.interfaces)),
    ]
}

/// Returns the facts as they are sent, as one JSON object.
#[must_use]
pub fn facts_json(facts: &HostFacts, machine_id: Option<&str>) -> serde_json::Value {
    serde_json::to_value(HostBody::of(facts, machine_id)).unwrap_or_default()
}

/// Reads an accepted enrolment.
///
/// # Errors
/// The part of the response that is not of this protocol, without any token.
pub fn enrolled(reply: &Reply) -> Result<Admission, String> {
    use secrecy::ExposeSecret;
    let admission = admitted(reply)?;
    let body: CredentialBody = parsed(text(reply)?)?;
    let token = body
        .agent_token
        .ok_or("the response holds no `agent_token`")?;
    let token = token.expose_secret();
    if !token.starts_with("agt_") {
        return Err("the `agent_token` of the response does not begin with `agt_`".into());
    }
    let token = Secret::per_agent(token)
        .map_err(|fault| format!("the `agent_token` of the response: {fault}"))?;
    Ok(Admission {
        agent_token: Some(token),
        ..admission
    })
}

/// Reads an accepted registration.
///
/// # Errors
/// The part of the response that is not of this protocol.
pub fn registered(reply: &Reply) -> Result<Admission, String> {
    admitted(reply)
}

/// Reads the fields that both calls share. Only the agent's id matters: any other field that cannot be used
/// counts as absent, so that no such field costs the credential.
fn admitted(reply: &Reply) -> Result<Admission, String> {
    if reply.media_type.as_deref() != Some("application/json") {
        return Err(format!(
            "the response is {}, not application/json{}",
            reply
                .media_type
                .as_deref()
                .map_or("of no media type".into(), |name| format!("{name:?}")),
            portal_hint(reply.media_type.as_deref())
        ));
    }
    let body: AdmissionBody = parsed(text(reply)?)?;
    let agent_id = agent_id(&body.agent_id).ok_or(
        "the `agent_id` of the response has the wrong type: it is not a UUID in the form 8-4-4-4-12, or the nil UUID",
    )?;
    let interval = body
        .heartbeat_interval_secs
        .interval_secs("heartbeat_interval_secs");
    Ok(Admission {
        agent_id,
        agent_token: None,
        default_tags: default_tags(body.default_tags),
        default_role: default_role(body.default_role),
        heartbeat_interval_secs: interval.unwrap_or(DEFAULT_INTERVAL_SECS),
        is_new: reply.status == 201,
        receipt: receipt(body.receipt),
    })
}

fn text(reply: &Reply) -> Result<&str, &'static str> {
    std::str::from_utf8(&reply.body).map_err(|_| "the response is not UTF-8")
}

fn parsed<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| {
        // The parser's message could repeat a value. The place is enough.
        let problem = if error.is_data() {
            "lacks a field, or has one of the wrong type"
        } else {
            "is not JSON"
        };
        format!(
            "the response {problem} (line {}, column {})",
            error.line(),
            error.column()
        )
    })
}

/// Returns the default tags that are valid, at most [`tags::MAX_TAGS`]. Logs a warning for each other tag.
fn default_tags(field: Optional<Vec<Optional<String>>>) -> Vec<String> {
    let mut valid = Vec::new();
    let list = field.or_warn("default_tags").unwrap_or_default();
    for (index, tag) in list.into_iter().enumerate() {
        if valid.len() == tags::MAX_TAGS {
            let fault = format!("at most {} tags are allowed", tags::MAX_TAGS);
            optional::warn("default_tags", &fault);
            break;
        }
        let field = format!("default_tags[{index}]");
        let Some(tag) = tag.or_warn(&field) else {
            continue;
        };
        match tags::tag_fault(&tag) {
            Some(fault) => optional::warn(&field, &fault),
            None => valid.push(tag),
        }
    }
    valid
}

/// Returns the receipt, if it has the form of one. Logs a warning otherwise.
fn receipt(field: Optional<String>) -> Option<Receipt> {
    let text = field.or_warn("receipt")?;
    let receipt = Receipt::parse(&text);
    if receipt.is_none() {
        optional::warn("receipt", "it is not a receipt");
    }
    receipt
}

/// Returns the default role, if it is valid. Logs a warning otherwise.
fn default_role(field: Optional<String>) -> Option<String> {
    let role = field
        .or_warn("default_role")
        .filter(|role| !role.is_empty())?;
    match tags::role_fault(&role) {
        Some(fault) => {
            optional::warn("default_role", &fault);
            None
        }
        None => Some(role),
    }
}

/// Parses an agent's id, which has hyphens and is not the nil UUID (RFC 9562, sections 4 and 5.9). The
/// parser accepts other forms too: braces, `urn:uuid:`, no hyphens.
fn agent_id(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    (text.len() == uuid::fmt::Hyphenated::LENGTH && !id.is_nil()).then_some(id)
}

fn portal_hint(media_type: Option<&str>) -> &'static str {
    match media_type {
        Some("text/html") => " (a captive portal, a proxy's page, or a web site?)",
        _ => "",
    }
}

#[derive(Serialize)]
struct HostDescriptionBody<'a> {
    #[serde(flatten)]
    host: HostBody<'a>,
    tags: &'a [String],
    role: Option<&'a str>,
    signing_pubkey: &'a str,
}

impl<'a> HostDescriptionBody<'a> {
    fn of(description: &HostDescription<'a>, public_key: &'a str) -> Self {
        Self {
            host: HostBody::of(description.facts, description.machine_id),
            tags: description.tags,
            role: description.role,
            signing_pubkey: public_key,
        }
    }
}

#[derive(Serialize)]
struct ReadmissionBody<'a> {
    receipt: &'a str,
    at: &'a str,
    #[serde(flatten)]
    description: HostDescriptionBody<'a>,
}

#[derive(Serialize)]
struct HeartbeatBody<'a> {
    captured_at: &'a str,
    agent_version: &'a str,
    cpu_usage: Option<f64>,
    memory_used: Option<u64>,
    memory_total: Option<u64>,
    memory_percent: Option<f64>,
    interfaces: Vec<InterfaceBody<'a>>,
}

#[derive(Serialize)]
struct HostBody<'a> {
    hostname: &'a str,
    os_info: &'a str,
    architecture: &'a str,
    agent_version: &'a str,
    kernel: &'a str,
    cpus: usize,
    memory_bytes: u64,
    primary_ip: Option<String>,
    interfaces: Vec<InterfaceBody<'a>>,
    machine_fingerprint: Option<&'a str>,
}

#[derive(Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the wire's shape, field by field"
)]
struct InterfaceBody<'a> {
    name: &'a str,
    mac: Option<&'a str>,
    addresses: Vec<String>,
    is_management: bool,
    is_loopback: bool,
    is_virtual: bool,
    is_wireless: bool,
    is_up: bool,
    bytes_sent: u64,
    bytes_recv: u64,
}

#[derive(Deserialize)]
struct AdmissionBody {
    agent_id: String,
    #[serde(default)]
    default_tags: Optional<Vec<Optional<String>>>,
    #[serde(default)]
    default_role: Optional<String>,
    #[serde(default)]
    heartbeat_interval_secs: Optional<f64>,
    #[serde(default)]
    receipt: Optional<String>,
}

/// The credential in the response to an enrolment. A registration brings none.
#[derive(Deserialize)]
struct CredentialBody {
    agent_token: Option<secrecy::SecretString>,
}

impl<'a> HostBody<'a> {
    fn of(facts: &'a HostFacts, machine_id: Option<&'a str>) -> Self {
        Self {
            hostname: &facts.hostname,
            os_info: &facts.os_info,
            architecture: &facts.architecture,
            agent_version: facts.agent_version,
            kernel: &facts.kernel,
            cpus: facts.cpus,
            memory_bytes: facts.memory_bytes,
            primary_ip: facts.primary_ip.map(|ip| ip.to_string()),
            interfaces: facts.interfaces.iter().map(InterfaceBody::from).collect(),
            machine_fingerprint: machine_id,
        }
    }
}

impl<'a> From<&'a Interface> for InterfaceBody<'a> {
    fn from(interface: &'a Interface) -> Self {
        Self {
            name: &interface.name,
            mac: interface.mac.as_deref(),
            addresses: interface
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect(),
            is_management: interface.is_management,
            is_loopback: interface.is_loopback,
            is_virtual: interface.is_virtual,
            is_wireless: interface.is_wireless,
            is_up: interface.is_up,
            bytes_sent: interface.bytes_sent,
            bytes_recv: interface.bytes_recv,
        }
    }
}
