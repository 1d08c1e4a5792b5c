//! What the calls that an agent makes with its own token have in common.

use crate::App;
use crate::agents::AgentRow;
use crate::clock::Millis;
use crate::database::Stop;
use crate::integrity::Sighting;
use crate::refusal::Refusal;
use crate::request::Source;
use crate::secret::TokenHash;
use axum::body::Bytes;
use axum::http::HeaderMap;
use rusqlite::Savepoint;
use std::sync::Arc;
use uuid::Uuid;

/// A call under a token that may be an agent's.
pub(crate) struct AgentCall {
    pub(crate) app: Arc<App>,
    pub(crate) token: TokenHash,
    pub(crate) source: Source,
    pub(crate) headers: HeaderMap,
    pub(crate) raw: Bytes,
    pub(crate) now: Millis,
}

impl AgentCall {
    /// The agent whose token this is. An unknown token is the plain 401.
    pub(crate) fn agent(&self, savepoint: &Savepoint<'_>) -> Result<AgentRow, Stop> {
        let agent = AgentRow::by_token(savepoint, self.token)?;
        Ok(agent.ok_or_else(Refusal::unauthorised)?)
    }

    /// The agent whose token this is, if it is the one of the path and, once its key is
    /// pinned, has signed the body.
    pub(crate) fn signed_agent(
        &self,
        savepoint: &Savepoint<'_>,
        id: Uuid,
    ) -> Result<AgentRow, Stop> {
        let agent = self.agent(savepoint)?;
        if agent.id != id {
            return Err(Refusal::unauthorised().into());
        }
        if let Some(key) = agent.key {
            self.sighting(&agent)
                .check_signature(savepoint, &self.headers, &self.raw, key)?;
        }
        Ok(agent)
    }

    pub(crate) fn sighting(&self, agent: &AgentRow) -> Sighting<'_> {
        Sighting {
            app: &self.app,
            agent_id: agent.id,
            source: self.source.0,
            now: self.now,
        }
    }
}
