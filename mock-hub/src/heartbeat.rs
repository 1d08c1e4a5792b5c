//! `POST /api/v1/agents/{id}/heartbeat`, and `DELETE /api/v1/agents/{id}`: staying, and leaving.

use crate::App;
use crate::agent_call::AgentCall;
use crate::clock::{Millis, parse_rfc3339};
use crate::database::{Stop, to_json};
use crate::host::{Interface, check_interfaces, check_version};
use crate::refusal::Refusal;
use crate::request::{Bearer, Id, JsonBody, Source, Wire};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use rusqlite::{Transaction, named_params};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The body on the wire, kept as it came.
#[derive(Deserialize, Serialize)]
pub(crate) struct Heartbeat {
    captured_at: String,
    agent_version: String,
    cpu_usage: Option<f64>,
    memory_used: Option<u64>,
    memory_total: Option<u64>,
    memory_percent: Option<f64>,
    #[serde(default)]
    interfaces: Vec<Interface>,
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
pub(crate) async fn heartbeat(
    State(app): State<Arc<App>>,
    source: Source,
    Id(id): Id,
    bearer: Bearer,
    headers: HeaderMap,
    body: JsonBody<Heartbeat>,
) -> Result<StatusCode, Refusal> {
    let (heartbeat, captured_at) = body.value;
    let call = AgentCall {
        token: bearer.token()?,
        source,
        headers,
        raw: body.raw,
        now: app.clock.now(),
    };
    app.database
        .transact(move |transaction| -> Result<(), Stop> {
            let agent = call.signed_agent(transaction, id)?;
            let sighting = call.sighting(&agent);
            sighting.check_clock(transaction, captured_at)?;
            if let Some(before) = &agent.agent_version {
                sighting.check_version(transaction, before, &heartbeat.agent_version)?;
            }
            Ok(keep(transaction, &call, id, &heartbeat)?)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn keep(
    transaction: &Transaction<'_>,
    call: &AgentCall,
    id: uuid::Uuid,
    heartbeat: &Heartbeat,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE agents SET last_heartbeat = :heartbeat, agent_version = :version,
                               last_seen_at = :now
              WHERE id = :id",
        )?
        .execute(named_params! {
            ":id": id.to_string(),
            ":heartbeat": to_json(heartbeat)?,
            ":version": heartbeat.agent_version,
            ":now": call.now,
        })?;
    Ok(())
}

/// Lets an agent go. Its row is deleted, so its key is free; the audit of its enrolment stays.
pub(crate) async fn leave(
    State(app): State<Arc<App>>,
    source: Source,
    Id(id): Id,
    bearer: Bearer,
    headers: HeaderMap,
    raw: Bytes,
) -> Result<StatusCode, Refusal> {
    let call = AgentCall {
        token: bearer.token()?,
        source,
        headers,
        raw,
        now: app.clock.now(),
    };
    app.database
        .transact(move |transaction| -> Result<(), Stop> {
            call.signed_agent(transaction, id)?;
            transaction
                .prepare_cached("DELETE FROM agents WHERE id = ?1")?
                .execute([id.to_string()])?;
            Ok(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
