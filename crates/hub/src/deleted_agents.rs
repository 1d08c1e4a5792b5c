//! Agents that an operator deletes: they stay deleted until the operator allows them again.

use crate::app::App;
use crate::clock::Millis;
use crate::database::TransactionError;
use crate::receipt::key_hash;
use crate::refusal::Refusal;
use crate::request::{Admin, Id};
use crate::revocations::{self, Entry};
use crate::signature::PublicKey;
use axum::extract::State;
use axum::http::StatusCode;
use rusqlite::{Savepoint, params};
use std::sync::Arc;
use uuid::Uuid;

/// Deletes an agent for the operator. Its key stays refused, and the audit of its enrolment stays.
pub(crate) fn delete(
    savepoint: &Savepoint<'_>,
    app: &App,
    agent_id: Uuid,
    now: Millis,
) -> Result<(), TransactionError> {
    let Some((_, key)) = revocations::last_receipt(savepoint, agent_id, now)? else {
        return Err(Refusal::not_found("agent").into());
    };
    revocations::delete_agent(savepoint, agent_id, key.as_deref(), now)?;
    app.revoke(&[Entry::AgentDeleted { agent_id, key }])?;
    Ok(())
}

/// `POST /api/v1/agents/{id}/allow`: takes a deletion back, so that a token or a receipt admits the
/// agent again.
pub(crate) async fn allow(
    _: Admin,
    State(app): State<Arc<App>>,
    Id(agent_id): Id,
) -> Result<StatusCode, Refusal> {
    let database = app.database.clone();
    database
        .transact(move |savepoint| -> Result<(), TransactionError> {
            let allowed = savepoint
                .prepare_cached("DELETE FROM deleted_agents WHERE agent_id = ?1")?
                .execute([agent_id.to_string()])?;
            if allowed == 0 {
                return Err(Refusal::not_found("deleted agent").into());
            }
            Ok(app.revoke(&[Entry::AgentAllowed { agent_id }])?)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns whether an agent with this key was deleted.
pub(crate) fn is_key_refused(savepoint: &Savepoint<'_>, key: PublicKey) -> rusqlite::Result<bool> {
    savepoint
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM deleted_agents WHERE key_sha256 = ?1)")?
        .query_row([key_hash(key)], |row| row.get(0))
}

/// Returns whether the agent of this id was deleted.
pub(crate) fn is_deleted(savepoint: &Savepoint<'_>, agent_id: Uuid) -> rusqlite::Result<bool> {
    savepoint
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM deleted_agents WHERE agent_id = ?1)")?
        .query_row(params![agent_id.to_string()], |row| row.get(0))
}
