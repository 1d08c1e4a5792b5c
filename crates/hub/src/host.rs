//! The body with which a host registers, the same for enrol and register.

use crate::body::Wire;
use crate::labels::{read_role, read_tags};
use crate::signature::PublicKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::IpAddr;

/// The most characters of a fact; no honest one is longer.
const MAX_FACT: usize = 1024;
const MAX_INTERFACES: usize = 4096;

/// The body on the wire. Every field that is not skipped is a fact, which is stored as it arrives.
#[derive(Deserialize, Serialize)]
pub(crate) struct Registration {
    hostname: String,
    os_info: String,
    architecture: String,
    agent_version: String,
    kernel: Option<String>,
    cpus: Option<u32>,
    memory_bytes: Option<u64>,
    primary_ip: Option<IpAddr>,
    #[serde(default)]
    interfaces: Vec<Interface>,
    machine_fingerprint: Option<String>,
    #[serde(default, skip_serializing)]
    tags: Vec<String>,
    #[serde(skip_serializing)]
    role: Option<String>,
    #[serde(skip_serializing)]
    signing_pubkey: String,
}

/// A host by its checked registration.
pub(crate) struct Host {
    pub(crate) facts: Value,
    pub(crate) agent_version: String,
    pub(crate) tags: Vec<String>,
    pub(crate) role: Option<String>,
    pub(crate) key: PublicKey,
}

/// A network interface, in a registration or a heartbeat.
#[derive(Debug, Deserialize, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "the protocol has five")]
pub(crate) struct Interface {
    name: String,
    mac: Option<String>,
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    is_management: bool,
    #[serde(default)]
    is_loopback: bool,
    #[serde(default)]
    is_virtual: bool,
    #[serde(default)]
    is_wireless: bool,
    #[serde(default)]
    is_up: bool,
    #[serde(default)]
    bytes_sent: u64,
    #[serde(default)]
    bytes_recv: u64,
}

impl Wire for Registration {
    type Checked = Host;

    fn check(self) -> Result<Host, String> {
        let texts = [
            ("hostname", Some(&self.hostname)),
            ("os_info", Some(&self.os_info)),
            ("architecture", Some(&self.architecture)),
            ("kernel", self.kernel.as_ref()),
            ("machine_fingerprint", self.machine_fingerprint.as_ref()),
        ];
        for (field, text) in texts {
            check_text(field, text)?;
        }
        check_version(&self.agent_version)?;
        check_interfaces(&self.interfaces)?;
        let tags = read_tags("tags", &self.tags)?;
        let role = read_role("role", self.role.as_deref())?;
        let key = PublicKey::from_base64(&self.signing_pubkey)
            .map_err(|cause| format!("signing_pubkey: must be {cause}"))?;
        Ok(Host {
            facts: serde_json::to_value(&self).map_err(|cause| cause.to_string())?,
            agent_version: self.agent_version,
            tags,
            role,
            key,
        })
    }
}

/// Checks that a version has 1 to 64 characters.
pub(crate) fn check_version(version: &str) -> Result<(), String> {
    if (1..=64).contains(&version.chars().count()) {
        Ok(())
    } else {
        Err("agent_version: must be 1 to 64 characters".to_owned())
    }
}

/// Checks that there are no more interfaces than any host has.
pub(crate) fn check_interfaces(interfaces: &[Interface]) -> Result<(), String> {
    if interfaces.len() <= MAX_INTERFACES {
        Ok(())
    } else {
        Err(format!("interfaces: at most {MAX_INTERFACES}"))
    }
}

/// Checks that a fact, if given, is neither empty nor too long.
fn check_text(field: &str, text: Option<&String>) -> Result<(), String> {
    match text.map(|text| text.chars().count()) {
        None | Some(1..=MAX_FACT) => Ok(()),
        Some(_) => Err(format!("{field}: must be 1 to {MAX_FACT} characters")),
    }
}
