//! The bodies that a sensor sends.

use hub::body::Wire;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// The number of characters of a host's texts; no honest one is longer.
const TEXT: RangeInclusive<usize> = 1..=1024;
const MAX_INTERFACES: usize = 4096;

/// The body of an enrolment on the wire. Every field that is not skipped is shown to the operator.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Enrolment {
    #[serde(skip_serializing)]
    pub(super) install_token: String,
    hostname: String,
    os_info: String,
    architecture: String,
    agent_version: String,
    sensor_ip: IpAddr,
    sensor_port: u16,
    sudo_user: String,
    interfaces: Vec<Interface>,
}

/// A network interface, in an enrolment or a heartbeat. None of its fields is optional.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the protocol has five")]
pub(super) struct Interface {
    name: String,
    is_management: bool,
    is_loopback: bool,
    is_virtual: bool,
    is_wireless: bool,
    is_up: bool,
    bytes_sent: u64,
    bytes_recv: u64,
}

/// The body of a heartbeat on the wire.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Heartbeat {
    cpu_usage: f64,
    memory_used: u64,
    memory_total: u64,
    memory_percent: f64,
    interfaces: Vec<Interface>,
}

impl Wire for Enrolment {
    type Checked = Self;

    fn check(self) -> Result<Self, String> {
        for (field, text) in [
            ("installToken", &self.install_token),
            ("hostname", &self.hostname),
            ("osInfo", &self.os_info),
            ("architecture", &self.architecture),
            ("agentVersion", &self.agent_version),
            ("sudoUser", &self.sudo_user),
        ] {
            check_text(field, text)?;
        }
        if self.sensor_port == 0 {
            return Err("sensorPort: must be 1 to 65535".to_owned());
        }
        check_interfaces(&self.interfaces)?;
        Ok(self)
    }
}

impl Wire for Heartbeat {
    type Checked = Self;

    fn check(self) -> Result<Self, String> {
        for (field, percent) in [
            ("cpuUsage", self.cpu_usage),
            ("memoryPercent", self.memory_percent),
        ] {
            if !(0.0..=100.0).contains(&percent) {
                return Err(format!("{field}: must be 0 to 100"));
            }
        }
        if self.memory_used > self.memory_total {
            return Err("memoryUsed: more than memoryTotal".to_owned());
        }
        check_interfaces(&self.interfaces)?;
        Ok(self)
    }
}

fn check_interfaces(interfaces: &[Interface]) -> Result<(), String> {
    if interfaces.len() > MAX_INTERFACES {
        return Err(format!("interfaces: at most {MAX_INTERFACES}"));
    }
    interfaces
        .iter()
        .try_for_each(|interface| check_text("interfaces.name", &interface.name))
}

fn check_text(field: &str, text: &str) -> Result<(), String> {
    if TEXT.contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!(
        "{field}: must be {} to {} characters with no control character",
        TEXT.start(),
        TEXT.end()
    ))
}
