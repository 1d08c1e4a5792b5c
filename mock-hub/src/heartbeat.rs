//! `POST /api/v1/agents/{id}/heartbeat`, and `DELETE /api/v1/agents/{id}`: staying, and leaving.

use crate::agent_call::AgentCall;
use crate::clock::{Millis, parse_rfc3339};
use crate::database::Stop;
use crate::host::{Interface, check_interfaces, check_version};
use crate::rate::Caller;
use crate::refusal::Refusal;
use crate::request::{Id, Wire};
use crate::rules::{self, Memory};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

/// The body on the wire, kept as it came.
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
    /// What is measured, if anything is.
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

/// Takes a sign of life.
pub(crate) async fn heartbeat(Id(id): Id, call: AgentCall) -> Result<StatusCode, Refusal> {
    let (heartbeat, captured_at) = call.json::<Heartbeat>(Some(id)).await?;
    let database = call.app.database.clone();
    database
        .transact(move |savepoint| -> Result<(), Stop> {
            let agent = call.signed_agent(savepoint, id)?;
            let sighting = call.sighting(&agent);
            sighting.count(Caller::Agent)?;
            rules::check_clock(savepoint, &sighting, captured_at)?;
            rules::check_new(savepoint, &sighting, &call.body.bytes)?;
            let mut memory = Memory::of(savepoint, &sighting)?;
            memory.check_cadence(savepoint, &sighting)?;
            memory.check_metrics(savepoint, &sighting, &heartbeat)?;
            if let Some(before) = &agent.agent_version {
                rules::check_version(savepoint, &sighting, before, &heartbeat.agent_version)?;
            }
            Ok(memory.keep(savepoint, &sighting, &heartbeat)?)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets an agent go. Its row is deleted, so its key is free; the audit of its enrolment stays.
pub(crate) async fn leave(Id(id): Id, call: AgentCall) -> Result<StatusCode, Refusal> {
    let database = call.app.database.clone();
    database
        .transact(move |savepoint| -> Result<(), Stop> {
            call.signed_agent(savepoint, id)?;
            savepoint
                .prepare_cached("DELETE FROM agents WHERE id = ?1")?
                .execute([id.to_string()])?;
            Ok(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
