//! `DELETE /api/v1/agents/{id}`: an agent unenrols.

use crate::agent_call::AgentCall;
use crate::database::TransactionError;
use crate::refusal::Refusal;
use crate::request::Id;
use axum::http::StatusCode;

/// Deletes an agent's row, so that its key is free. The audit of its enrolment stays.
pub(crate) async fn unenrol(Id(id): Id, call: AgentCall) -> Result<StatusCode, Refusal> {
    let database = call.app.database.clone();
    database
        .transact(move |savepoint| -> Result<(), TransactionError> {
            call.signed_agent(savepoint, id)?;
            savepoint
                .prepare_cached("DELETE FROM agents WHERE id = ?1")?
                .execute([id.to_string()])?;
            Ok(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
