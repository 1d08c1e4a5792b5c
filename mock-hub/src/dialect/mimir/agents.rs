//! Mimir's agents: their own calls, and the operator's calls about them.

use super::certificates::{Certified, proven_key, read_csr, validity};
use crate::client_ca::ClientCa;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use hub::App;
use hub::body::{JsonBody, Wire};
use hub::clock::{Millis, rfc3339};
use hub::refusal::Refusal;
use hub::request::{Admin, Id, Peer};
use rcgen::{PublicKey, PublicKeyData as _};
use rusqlite::{OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// An agent, as shown to itself and to the operator.
#[derive(Serialize)]
pub(super) struct AgentView {
    agent_id: String,
    hostname: String,
    certificates: i64,
    certificate_expires_at: String,
    created_at: String,
    last_seen_at: Option<String>,
}

impl AgentView {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            agent_id: row.get("id")?,
            hostname: row.get("hostname")?,
            certificates: row.get("certificates")?,
            certificate_expires_at: rfc3339(row.get("expires_at")?),
            created_at: rfc3339(row.get("created_at")?),
            last_seen_at: row.get::<_, Option<Millis>>("last_seen_at")?.map(rfc3339),
        })
    }
}

/// `GET /api/v1/agent/self`, with a client certificate: the agent counts as seen.
pub(super) async fn myself(
    State(app): State<Arc<App>>,
    peer: Peer,
) -> Result<Json<AgentView>, Refusal> {
    let key = proven_key(&app, &peer)?;
    let now = app.clock.now();
    let seen = app
        .database
        .transact(move |savepoint| {
            savepoint
                .prepare_cached(
                    "UPDATE mimir_agents SET last_seen_at = ?2 WHERE public_key = ?1 RETURNING *",
                )?
                .query_row(params![key, now], AgentView::of)
                .optional()
        })
        .await?;
    seen.map(Json).ok_or_else(Refusal::unauthorised)
}

/// The body of a renewal on the wire.
#[derive(Deserialize)]
pub(super) struct RenewBody {
    csr: String,
}

impl Wire for RenewBody {
    type Checked = PublicKey;

    fn check(self) -> Result<PublicKey, String> {
        read_csr(&self.csr)
    }
}

/// `POST /api/v1/agent/renew`, with a client certificate: issues a new one for the same key.
pub(super) async fn renew(
    State(app): State<Arc<App>>,
    State(ca): State<Arc<ClientCa>>,
    peer: Peer,
    body: JsonBody<RenewBody>,
) -> Result<Json<Certified>, Refusal> {
    let key = proven_key(&app, &peer)?;
    if key != body.value.der_bytes() {
        return Err(Refusal::invalid(
            "csr: it is for another key than the certificate",
        ));
    }
    let now = app.clock.now();
    let renewed = app
        .database
        .transact(move |savepoint| {
            let valid = validity(savepoint, now)?;
            let agent_id: Option<String> = savepoint
                .prepare_cached(
                    "UPDATE mimir_agents SET certificates = certificates + 1, expires_at = ?2
                      WHERE public_key = ?1 RETURNING id",
                )?
                .query_row(params![key, valid.end], |row| row.get(0))
                .optional()?;
            Ok::<_, rusqlite::Error>(agent_id.map(|agent_id| (agent_id, valid)))
        })
        .await?;
    let (agent_id, valid) = renewed.ok_or_else(Refusal::unauthorised)?;
    Certified::issue(&ca, agent_id, &body.value, &valid)
}

/// The operator's list.
#[derive(Serialize)]
pub(super) struct Agents {
    agents: Vec<AgentView>,
}

/// `GET /api/v1/mimir/agents`: lists the agents. Mimir's page "Hosts" has those that have been seen.
pub(super) async fn list(_: Admin, State(app): State<Arc<App>>) -> Result<Json<Agents>, Refusal> {
    let agents = app
        .database
        .transact(|savepoint| {
            savepoint
                .prepare_cached("SELECT * FROM mimir_agents ORDER BY created_at, rowid")?
                .query_map([], AgentView::of)?
                .collect::<rusqlite::Result<_>>()
        })
        .await?;
    Ok(Json(Agents { agents }))
}

/// `DELETE /api/v1/mimir/agents/{id}`: removes an agent, so that its certificate stops working.
pub(super) async fn remove(
    _: Admin,
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<StatusCode, Refusal> {
    let deleted = app
        .database
        .transact(move |savepoint| {
            savepoint
                .prepare_cached("DELETE FROM mimir_agents WHERE id = ?1")?
                .execute([id.to_string()])
        })
        .await?;
    match deleted {
        0 => Err(Refusal::not_found("agent")),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}
