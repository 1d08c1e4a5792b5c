//! The common part of all calls that an agent makes with its own token.

use crate::agents::AgentRow;
use crate::anomalies::CheckContext;
use crate::app::App;
use crate::body::{RawBody, Wire};
use crate::clock::Millis;
use crate::database::TransactionError;
use crate::refusal::Refusal;
use crate::request::{Bearer, Source};
use axum::extract::{FromRequest, FromRequestParts as _, Request};
use axum::http::HeaderMap;
use rusqlite::Savepoint;
use std::sync::Arc;
use uuid::Uuid;

/// A call with a token that may be an agent's. The body is not parsed yet.
#[derive(Clone)]
pub(crate) struct AgentCall {
    pub(crate) app: Arc<App>,
    bearer: Bearer,
    source: Source,
    pub(crate) headers: HeaderMap,
    pub(crate) body: RawBody,
    pub(crate) now: Millis,
    steady: Millis,
}

impl FromRequest<Arc<App>> for AgentCall {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let Ok(bearer) = Bearer::from_request_parts(&mut parts, app).await;
        let source = Source::from_request_parts(&mut parts, app).await?;
        let headers = parts.headers.clone();
        let body = RawBody::from_request(Request::from_parts(parts, body), app).await?;
        Ok(Self {
            app: Arc::clone(app),
            bearer,
            source,
            headers,
            body,
            now: app.clock.now(),
            steady: app.clock.steady(),
        })
    }
}

impl AgentCall {
    /// Parses and checks the body. While a key is pinned, the signature over the raw bytes is checked
    /// before any of them is parsed: a stolen token alone reaches no parser, and leaves an anomaly.
    ///
    /// `id` is the path's, if it has one. A token that is unknown, or another agent's,
    /// passes here: [`Self::agent`] and [`Self::signed_agent`] refuse it.
    pub(crate) async fn json<T: Wire>(&self, id: Option<Uuid>) -> Result<T::Checked, Refusal> {
        let call = self.clone();
        self.app
            .database
            .transact(move |savepoint| -> Result<(), TransactionError> {
                match call.known_agent(savepoint)? {
                    Some(agent) if id.is_none_or(|id| id == agent.id) => {
                        call.check_pinned(savepoint, &agent)
                    }
                    _ => Ok(()),
                }
            })
            .await?;
        self.body.json::<T>()
    }

    /// Returns whether the token is the operator's.
    pub(crate) fn is_admin(&self) -> bool {
        self.bearer
            .token()
            .is_ok_and(|token| token == self.app.admin_token)
    }

    /// Returns the agent of the token. An unknown token is the plain 401.
    pub(crate) fn agent(&self, savepoint: &Savepoint<'_>) -> Result<AgentRow, TransactionError> {
        let agent = self.known_agent(savepoint)?;
        Ok(agent.ok_or_else(Refusal::unauthorised)?)
    }

    fn known_agent(&self, savepoint: &Savepoint<'_>) -> rusqlite::Result<Option<AgentRow>> {
        match self.bearer.token() {
            Ok(token) => AgentRow::by_token(savepoint, token),
            Err(_) => Ok(None),
        }
    }

    fn check_pinned(
        &self,
        savepoint: &Savepoint<'_>,
        agent: &AgentRow,
    ) -> Result<(), TransactionError> {
        match agent.key {
            Some(key) => {
                let context = self.context(agent);
                context.check_signature(savepoint, &self.headers, &self.body.bytes, key)
            }
            None => Ok(()),
        }
    }

    /// Returns the agent of the token, if `id` is the agent's and, once a key is pinned, the agent
    /// has signed the body.
    pub(crate) fn signed_agent(
        &self,
        savepoint: &Savepoint<'_>,
        id: Uuid,
    ) -> Result<AgentRow, TransactionError> {
        let agent = self.agent(savepoint)?;
        if agent.id != id {
            return Err(Refusal::unauthorised().into());
        }
        // Checked again after `json`: a key may have been pinned since.
        self.check_pinned(savepoint, &agent)?;
        Ok(agent)
    }

    pub(crate) fn context(&self, agent: &AgentRow) -> CheckContext<'_> {
        CheckContext {
            app: &self.app,
            agent_id: agent.id,
            source: self.source.0,
            now: self.now,
            steady: self.steady,
        }
    }
}
