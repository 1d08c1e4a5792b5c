//! `POST /api/v1/agents/{id}/heartbeat`: an agent is alive.

mod body;
mod rules;

use crate::agent_call::AgentCall;
use crate::database::TransactionError;
use crate::rate_limit::Caller;
use crate::refusal::Refusal;
use crate::request::Id;
use axum::http::StatusCode;
use body::Heartbeat;
use rules::HeartbeatHistory;

/// Accepts a heartbeat, and checks it by the rules.
pub(crate) async fn heartbeat(Id(id): Id, call: AgentCall) -> Result<StatusCode, Refusal> {
    let (heartbeat, captured_at) = call.json::<Heartbeat>(Some(id)).await?;
    let database = call.app.database.clone();
    database
        .transact(move |savepoint| -> Result<(), TransactionError> {
            let agent = call.signed_agent(savepoint, id)?;
            let context = call.context(&agent);
            context.count(Caller::Agent)?;
            rules::check_clock(savepoint, &context, captured_at)?;
            rules::check_new(savepoint, &context, &call.body.bytes)?;
            // Only now: a replay is not a call of the host.
            context.record_call(savepoint)?;
            let mut history = HeartbeatHistory::load(savepoint, &context)?;
            history.check_cadence(savepoint, &context)?;
            history.check_metrics(savepoint, &context, &heartbeat)?;
            if let Some(before) = &agent.agent_version {
                rules::check_version(savepoint, &context, before, &heartbeat.agent_version)?;
            }
            Ok(history.store(savepoint, &context, &heartbeat)?)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
