//! The wire format of a `RavenXcope` backend: request bodies and responses.

use reqwest::{Method, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use zeroize::Zeroizing;

use crate::ravenxcope::{Credential, DEFAULT_INTERVAL};
use agent_core::error::{Error, ErrorId};
use agent_core::facts::{HostFacts, Interface};
use agent_core::hub::client::{Reply, Request, SendError};
use agent_core::hub::optional::Optional;
use agent_core::hub::response::{self, Outcome, ResponseClass};
use agent_core::service::vitals::Vitals;
use agent_core::settings::HubUrl;
use agent_core::token::Secret;

/// Path of the enrolment, as people read it.
pub(crate) const ENROLL: &str = "/api/sensors/{SENSOR_ID}/agent/enroll";
/// The user that the protocol reports for privileged commands.
const SUDO_USER: &str = "sensoradmin";

/// Returns the URL of call `name` for sensor `id`. The id needs no escapes in a URL.
pub(crate) fn url(backend: &HubUrl, id: &str, name: &str) -> Url {
    backend.join(&format!("/api/sensors/{id}/agent/{name}"))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EnrollBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    install_token: Option<&'a str>,
    hostname: &'a str,
    os_info: &'a str,
    architecture: &'a str,
    agent_version: &'static str,
    sensor_ip: IpAddr,
    sensor_port: u16,
    sudo_user: &'static str,
    interfaces: Vec<InterfaceBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HeartbeatBody<'a> {
    cpu_usage: f64,
    memory_used: u64,
    memory_total: u64,
    memory_percent: f64,
    interfaces: Vec<InterfaceBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the protocol has five")]
struct InterfaceBody<'a> {
    name: &'a str,
    is_management: bool,
    is_loopback: bool,
    is_virtual: bool,
    is_wireless: bool,
    is_up: bool,
    bytes_sent: u64,
    bytes_recv: u64,
}

impl<'a> From<&'a Interface> for InterfaceBody<'a> {
    fn from(interface: &'a Interface) -> Self {
        Self {
            name: &interface.name,
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

fn enroll_body<'a>(
    facts: &'a HostFacts,
    port: u16,
    install_token: Option<&'a str>,
) -> EnrollBody<'a> {
    EnrollBody {
        install_token,
        hostname: &facts.hostname,
        os_info: &facts.os_info,
        architecture: &facts.architecture,
        agent_version: facts.agent_version,
        // The field has to be an address, also on a host without a route to another host.
        sensor_ip: facts.primary_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        sensor_port: port,
        sudo_user: SUDO_USER,
        interfaces: facts.interfaces.iter().map(InterfaceBody::from).collect(),
    }
}

/// Returns the facts as they are sent, field by field.
pub(crate) fn facts(facts: &HostFacts, port: u16) -> Vec<(&'static str, Value)> {
    let body = enroll_body(facts, port, None);
    vec![
        ("hostname", json!(body.hostname)),
        ("osInfo", json!(body.os_info)),
        ("architecture", json!(body.architecture)),
        ("agentVersion", json!(body.agent_version)),
        ("sensorIp", json!(body.sensor_ip)),
        ("sensorPort", json!(body.sensor_port)),
        ("sudoUser", json!(body.sudo_user)),
        ("interfaces", json!(body.interfaces)),
    ]
}

/// Returns the facts as they are sent, as one JSON object.
pub(crate) fn facts_json(facts: &HostFacts, port: u16) -> Value {
    json!(enroll_body(facts, port, None))
}

/// Returns the request that exchanges an install token for a sensor token.
pub(crate) fn enroll(
    url: Url,
    facts: &HostFacts,
    port: u16,
    install_token: &Secret,
) -> Request<'static> {
    let body = enroll_body(facts, port, Some(install_token.expose_secret()));
    // The buffer has room for the entire body, so that it leaves no copy of the token behind by growing.
    let room = 8 * 1024 + 512 * facts.interfaces.len();
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    // Strings, numbers and lists always have a JSON form.
    let _ = serde_json::to_writer(&mut *bytes, &body);
    Request {
        method: Method::POST,
        url,
        bearer: None,
        signature: None,
        body: bytes,
    }
}

/// Returns the request of a heartbeat. A value that the kernel does not report is 0.
pub(crate) fn heartbeat<'a>(url: Url, token: &'a Secret, vitals: &Vitals) -> Request<'a> {
    let body = HeartbeatBody {
        cpu_usage: vitals.cpu_usage.unwrap_or_default(),
        memory_used: vitals.memory_used.unwrap_or_default(),
        memory_total: vitals.memory_total.unwrap_or_default(),
        memory_percent: vitals.memory_percent.unwrap_or_default(),
        interfaces: vitals.interfaces.iter().map(InterfaceBody::from).collect(),
    };
    Request {
        method: Method::POST,
        url,
        bearer: Some(token),
        signature: None,
        body: serde_json::to_vec(&body).unwrap_or_default().into(),
    }
}

#[derive(Deserialize)]
struct ResponseBody {
    success: bool,
    #[serde(default)]
    data: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Admission {
    sensor_token: Option<SecretString>,
    #[serde(default)]
    heartbeat_interval_seconds: Optional<f64>,
}

/// Classifies the response to one try. Status 200 with `"success": true` is a success, and any other
/// status is a rejection or a reason to retry.
pub(crate) fn classify<T>(
    url: &str,
    sent: Result<Reply, SendError>,
    accepted: impl FnOnce(&Reply) -> Result<T, String>,
) -> Outcome<T> {
    if let Ok(reply) = &sent
        && reply.status == 200
        && body(reply).is_ok_and(|body| !body.success)
    {
        let cause = format!(
            "the backend answered 200 with `success: false`{}",
            response::hub_says(reply)
        );
        return Outcome::Stop(Error::new(ErrorId::Refused, cause).about(url).hint(
            "have an operator of the backend fix the cause that it names, then run the same command again",
        ));
    }
    let class = |status| match status {
        201..=299 => ResponseClass::Refused,
        _ => ResponseClass::of(status),
    };
    response::classify_by(url, sent, class, |reply| {
        body(reply)?;
        accepted(reply)
    })
}

/// Reads an accepted enrolment.
///
/// # Errors
/// The part of the response that is not of this protocol, without any token.
pub(crate) fn admitted(reply: &Reply) -> Result<Credential, String> {
    let data = body(reply)?.data.ok_or("the response holds no `data`")?;
    // The parser's message could repeat a value.
    let admission: Admission = serde_json::from_str(data.get())
        .map_err(|_| "a field of the response's `data` has the wrong type".to_owned())?;
    let token = admission
        .sensor_token
        .ok_or("the response holds no `sensorToken`")?;
    let token = Secret::opaque(token.expose_secret().trim())
        .map_err(|fault| format!("the `sensorToken` of the response: {fault}"))?;
    let interval = admission
        .heartbeat_interval_seconds
        .interval_secs("heartbeatIntervalSeconds")
        .map_or(DEFAULT_INTERVAL, Duration::from_secs);
    Ok(Credential { token, interval })
}

fn body(reply: &Reply) -> Result<ResponseBody, String> {
    serde_json::from_slice(&reply.body).map_err(|error| {
        let problem = if error.is_data() {
            "lacks `success`"
        } else {
            "is not JSON"
        };
        let from = match reply.media_type.as_deref() {
            Some("text/html") => " (a captive portal, a proxy's page, or a web site?)",
            _ => "",
        };
        format!("the response {problem}{from}")
    })
}
