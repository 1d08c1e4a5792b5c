//! What the calls that an agent makes with its own token have in common.

use crate::App;
use crate::agents::AgentRow;
use crate::clock::Millis;
use crate::database::Stop;
use crate::integrity::Sighting;
use crate::refusal::Refusal;
use crate::request::{Bearer, RawBody, Source, Wire};
use axum::extract::{FromRequest, FromRequestParts as _, Request};
use axum::http::HeaderMap;
use rusqlite::Savepoint;
use std::sync::Arc;
use uuid::Uuid;

/// A call under a token that may be an agent's. Its body is not parsed yet.
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
    /// What the body means. While a key is pinned, the signature over the raw bytes is checked
    /// before any of them is parsed: a stolen token alone reaches no parser, and leaves an anomaly
    /// whatever it sends.
    ///
    /// `id` is the one of the path, if there is one. A token that is unknown, or another agent's,
    /// passes here: [`Self::agent`] and [`Self::signed_agent`] refuse it.
    pub(crate) async fn json<T: Wire>(&self, id: Option<Uuid>) -> Result<T::Checked, Refusal> {
        let call = self.clone();
        self.app
            .database
            .transact(move |savepoint| -> Result<(), Stop> {
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

    /// The agent whose token this is. An unknown token is the plain 401.
    pub(crate) fn agent(&self, savepoint: &Savepoint<'_>) -> Result<AgentRow, Stop> {
        let agent = self.known_agent(savepoint)?;
        Ok(agent.ok_or_else(Refusal::unauthorised)?)
    }

    fn known_agent(&self, savepoint: &Savepoint<'_>) -> rusqlite::Result<Option<AgentRow>> {
        match self.bearer.token() {
            Ok(token) => AgentRow::by_token(savepoint, token),
            Err(_) => Ok(None),
        }
    }

    fn check_pinned(&self, savepoint: &Savepoint<'_>, agent: &AgentRow) -> Result<(), Stop> {
        match agent.key {
            Some(key) => {
                let sighting = self.sighting(agent);
                sighting.check_signature(savepoint, &self.headers, &self.body.bytes, key)
            }
            None => Ok(()),
        }
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
        // Also after `json`: a key may have been pinned since.
        self.check_pinned(savepoint, &agent)?;
        Ok(agent)
    }

    pub(crate) fn sighting(&self, agent: &AgentRow) -> Sighting<'_> {
        Sighting {
            app: &self.app,
            agent_id: agent.id,
            source: self.source.0,
            now: self.now,
            steady: self.steady,
        }
    }
}
