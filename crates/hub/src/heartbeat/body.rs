//! The body of a heartbeat.

use crate::body::Wire;
use crate::clock::{Millis, parse_rfc3339};
use crate::host::{Interface, check_interfaces, check_version};
use serde::{Deserialize, Serialize};

/// The body on the wire, stored as it arrives.
#[derive(Deserialize, Serialize)]
pub(crate) struct Heartbeat {
    captured_at: String,
    pub(crate) agent_version: String,
    cpu_usage: Option<f64>,
    memory_used: Option<u64>,
    memory_total: Option<u64>,
    memory_percent: Option<f64>,
    #[serde(default)]
    interfaces: Vec<Interface>,
}

impl Heartbeat {
    /// Returns all that is measured, if anything is.
    pub(crate) fn metrics(&self) -> Option<impl Serialize> {
        let metrics = (
            self.cpu_usage,
            self.memory_used,
            self.memory_total,
            self.memory_percent,
            &self.interfaces,
        );
        let nothing =
            matches!(metrics, (None, None, None, None, interfaces) if interfaces.is_empty());
        (!nothing).then_some(metrics)
    }
}

impl Wire for Heartbeat {
    type Checked = (Self, Millis);

    fn check(self) -> Result<(Self, Millis), String> {
        let captured_at =
            parse_rfc3339(&self.captured_at).ok_or("captured_at: must be an RFC 3339 time")?;
        check_version(&self.agent_version)?;
        check_interfaces(&self.interfaces)?;
        let percentages = [
            // Of one processor, so more of them make more than 100.
            ("cpu_usage", self.cpu_usage, 1_000_000.0),
            ("memory_percent", self.memory_percent, 100.0),
        ];
        for (field, value, most) in percentages {
            if value.is_some_and(|value| !(0.0..=most).contains(&value)) {
                return Err(format!("{field}: must be 0 to {most}"));
            }
        }
        Ok((self, captured_at))
    }
}
