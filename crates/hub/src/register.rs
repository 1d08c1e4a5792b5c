//! `POST /api/v1/agents/register`: a host with a token of its own pins its signing key.

use crate::agent_call::AgentCall;
use crate::agents::AgentRow;
use crate::anomalies::Anomaly;
use crate::clock::Millis;
use crate::database::{TransactionError, to_json};
use crate::deleted_agents::is_key_refused;
use crate::host::{Host, Registration};
use crate::labels::{merge_role, merge_tags};
use crate::receipt::{self, Subject};
use crate::refusal::Refusal;
use axum::Json;
use rusqlite::{OptionalExtension as _, Savepoint, named_params, params};
use serde::Serialize;
use uuid::Uuid;

/// The answer on the wire.
#[derive(Serialize)]
pub(crate) struct Registered {
    agent_id: Uuid,
    default_tags: Vec<String>,
    default_role: Option<String>,
    tags: Vec<String>,
    role: Option<String>,
    heartbeat_interval_secs: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<String>,
}

/// Pins the first key, and updates facts, tags and role each time.
pub(crate) async fn register(call: AgentCall) -> Result<Json<Registered>, Refusal> {
    let host = call.json::<Registration>(None).await?;
    let database = call.app.database.clone();
    let registered = database
        .transact(move |savepoint| run(savepoint, &call, &host))
        .await?;
    Ok(Json(registered))
}

fn run(
    savepoint: &Savepoint<'_>,
    call: &AgentCall,
    host: &Host,
) -> Result<Registered, TransactionError> {
    let agent = call.agent(savepoint)?;
    let context = call.context(&agent);
    // The host must hold the key of the body, and that key must be the pinned one, if there is one.
    context.check_signature(savepoint, &call.headers, &call.body.bytes, host.key)?;
    if agent.key.is_some_and(|pinned| pinned != host.key) {
        context.refuse(savepoint, Anomaly::SignatureInvalid)?;
    }
    if is_key_refused(savepoint, host.key)? {
        return Err(Refusal::unauthorised().into());
    }
    context.record_call(savepoint)?;
    check_key_is_free(savepoint, &agent, host)?;

    let mut registered = Registered {
        agent_id: agent.id,
        tags: merge_tags(&agent.default_tags, &host.tags),
        role: merge_role(agent.default_role.as_deref(), host.role.as_deref()),
        default_tags: agent.default_tags,
        default_role: agent.default_role,
        heartbeat_interval_secs: call.app.heartbeat_interval_secs,
        receipt: None,
    };
    store(savepoint, &registered, host, call.now)?;
    let issued_at = receipt::issue(savepoint, registered.agent_id, call.now)?;
    let subject = Subject {
        iss: call.app.origins.selected_by(&call.headers).to_string(),
        agent_id: registered.agent_id,
        key: host.key,
        admitted_by: agent.admitted_by.as_deref(),
        default_tags: &registered.default_tags,
        default_role: registered.default_role.as_deref(),
        facts: &host.facts,
    };
    registered.receipt = call.app.receipt(subject, issued_at)?;
    Ok(registered)
}

/// Checks that no other agent has the key: a key is one agent's identity.
fn check_key_is_free(
    savepoint: &Savepoint<'_>,
    agent: &AgentRow,
    host: &Host,
) -> Result<(), TransactionError> {
    let other: Option<i64> = savepoint
        .prepare_cached("SELECT 1 FROM agents WHERE signing_pubkey = ?1 AND id <> ?2")?
        .query_row(params![host.key.as_bytes(), agent.id.to_string()], |row| {
            row.get(0)
        })
        .optional()?;
    match other {
        Some(_) => Err(Refusal::key_in_use().into()),
        None => Ok(()),
    }
}

/// Stores the registration.
fn store(
    savepoint: &Savepoint<'_>,
    registered: &Registered,
    host: &Host,
    now: Millis,
) -> rusqlite::Result<()> {
    savepoint
        .prepare_cached(
            "UPDATE agents
                SET key_pinned_at = iif(signing_pubkey IS NULL, max(:now, coalesce(
                        (SELECT refused_before FROM receipt_floors WHERE agent_id = :id), 0)),
                        key_pinned_at),
                    signing_pubkey = :key, tags = :tags, role = :role, facts = :facts,
                    agent_version = :version, last_seen_at = :now
              WHERE id = :id",
        )?
        .execute(named_params! {
            ":id": registered.agent_id.to_string(),
            ":key": host.key.as_bytes(),
            ":tags": to_json(&registered.tags)?,
            ":role": registered.role,
            ":facts": to_json(&host.facts)?,
            ":version": host.agent_version,
            ":now": now,
        })?;
    Ok(())
}
