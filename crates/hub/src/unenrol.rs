//! `DELETE /api/v1/agents/{id}`: an agent unenrols, or an operator deletes it.

use crate::agent_call::AgentCall;
use crate::database::TransactionError;
use crate::deleted_agents;
use crate::refusal::Refusal;
use crate::request::Id;
use crate::revocations::{self, Entry};
use axum::http::StatusCode;
use rusqlite::Savepoint;
use uuid::Uuid;

/// Deletes an agent's row. The audit of its enrolment stays. With the agent's own token its key is
/// free afterwards; with the admin token the key stays refused.
pub(crate) async fn unenrol(Id(id): Id, call: AgentCall) -> Result<StatusCode, Refusal> {
    let database = call.app.database.clone();
    database
        .transact(move |savepoint| {
            if call.is_admin() {
                deleted_agents::delete(savepoint, &call.app, id, call.now)
            } else {
                run(savepoint, &call, id)
            }
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn run(savepoint: &Savepoint<'_>, call: &AgentCall, id: Uuid) -> Result<(), TransactionError> {
    call.signed_agent(savepoint, id)?;
    if let Some((before, key)) = revocations::last_receipt(savepoint, id, call.now)? {
        // What has unenrolled must not come back by its receipt.
        revocations::raise_floor(savepoint, id, before, key.as_deref(), true)?;
        savepoint
            .prepare_cached("DELETE FROM agents WHERE id = ?1")?
            .execute([id.to_string()])?;
        let entry = Entry::AgentUnenrolled {
            agent_id: id,
            before,
        };
        call.app.revoke(&[entry])?;
    }
    Ok(())
}
