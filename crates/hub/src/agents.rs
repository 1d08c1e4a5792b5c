//! Agents: their rows, and the operator's calls about them.

use crate::app::App;
use crate::body::{JsonBody, Wire};
use crate::clock::{Millis, rfc3339};
use crate::database::{TransactionError, from_json, to_json};
use crate::labels::{check_name, read_role, read_tags};
use crate::refusal::Refusal;
use crate::request::{Admin, Id};
use crate::revocations::{self, Entry};
use crate::secret::{TokenHash, TokenKind, fresh_token};
use crate::signature::PublicKey;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rusqlite::{OptionalExtension as _, Row, Savepoint, named_params, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;
use uuid::Uuid;

/// The part of an agent's row that its own calls need.
pub(crate) struct AgentRow {
    pub(crate) id: Uuid,
    pub(crate) key: Option<PublicKey>,
    pub(crate) default_tags: Vec<String>,
    pub(crate) default_role: Option<String>,
    pub(crate) agent_version: Option<String>,
    pub(crate) admitted_by: Option<String>,
}

impl AgentRow {
    /// Returns the agent with this token.
    pub(crate) fn by_token(
        savepoint: &Savepoint<'_>,
        token: TokenHash,
    ) -> rusqlite::Result<Option<Self>> {
        savepoint
            .prepare_cached("SELECT * FROM agents WHERE token_sha256 = ?1")?
            .query_row([token.as_bytes()], |row| {
                Ok(Self {
                    id: row.get::<_, String>("id")?.parse().unwrap_or_default(),
                    key: pinned_key(row)?,
                    default_tags: from_json(row, "default_tags")?,
                    default_role: row.get("default_role")?,
                    agent_version: row.get("agent_version")?,
                    admitted_by: row.get("admitted_by")?,
                })
            })
            .optional()
    }
}

/// Stores time and source of an agent's call. From the first one on, which is its enrolment, the hub
/// expects heartbeats.
pub(crate) fn record_call(
    savepoint: &Savepoint<'_>,
    agent_id: Uuid,
    source: IpAddr,
    now: Millis,
    steady: Millis,
) -> rusqlite::Result<()> {
    savepoint
        .prepare_cached(
            "UPDATE agents
                SET last_seen_at = :now, last_source_ip = :source,
                    heartbeat_at = coalesce(heartbeat_at, :steady)
              WHERE id = :id",
        )?
        .execute(named_params! {
            ":id": agent_id.to_string(),
            ":source": source.to_string(),
            ":now": now,
            ":steady": steady,
        })?;
    Ok(())
}

fn pinned_key(row: &Row<'_>) -> rusqlite::Result<Option<PublicKey>> {
    let bytes: Option<Vec<u8>> = row.get("signing_pubkey")?;
    Ok(bytes.and_then(|bytes| PublicKey::from_bytes(&bytes)))
}

/// An agent, as the operator sees it.
#[derive(Serialize)]
pub(crate) struct AgentView {
    agent_id: String,
    name: Option<String>,
    enrolment_token_id: Option<String>,
    default_tags: Vec<String>,
    default_role: Option<String>,
    tags: Vec<String>,
    role: Option<String>,
    signing_pubkey: Option<String>,
    agent_version: Option<String>,
    facts: Option<Value>,
    last_heartbeat: Option<Value>,
    created_at: String,
    readmitted_at: Option<String>,
    last_seen_at: Option<String>,
    last_source_ip: Option<String>,
}

impl AgentView {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let json = |column| -> rusqlite::Result<Option<Value>> {
            match row.get_ref(column)? {
                rusqlite::types::ValueRef::Null => Ok(None),
                _ => from_json(row, column),
            }
        };
        let last_seen_at: Option<Millis> = row.get("last_seen_at")?;
        let readmitted_at: Option<Millis> = row.get("readmitted_at")?;
        Ok(Self {
            agent_id: row.get("id")?,
            name: row.get("name")?,
            enrolment_token_id: row.get("admitted_by")?,
            default_tags: from_json(row, "default_tags")?,
            default_role: row.get("default_role")?,
            tags: from_json(row, "tags")?,
            role: row.get("role")?,
            signing_pubkey: pinned_key(row)?.map(PublicKey::to_base64),
            agent_version: row.get("agent_version")?,
            facts: json("facts")?,
            last_heartbeat: json("last_heartbeat")?,
            created_at: rfc3339(row.get("created_at")?),
            readmitted_at: readmitted_at.map(rfc3339),
            last_seen_at: last_seen_at.map(rfc3339),
            last_source_ip: row.get("last_source_ip")?,
        })
    }
}

/// The operator's list.
#[derive(Serialize)]
pub(crate) struct Agents {
    agents: Vec<AgentView>,
}

/// `GET /api/v1/agents`
pub(crate) async fn list(_: Admin, State(app): State<Arc<App>>) -> Result<Json<Agents>, Refusal> {
    let agents = app
        .database
        .transact(|savepoint| {
            savepoint
                .prepare_cached("SELECT * FROM agents ORDER BY created_at, rowid")?
                .query_map([], AgentView::of)?
                .collect()
        })
        .await?;
    Ok(Json(Agents { agents }))
}

/// `GET /api/v1/agents/{id}`
pub(crate) async fn get(
    _: Admin,
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<AgentView>, Refusal> {
    let found = app
        .database
        .transact(move |savepoint| {
            savepoint
                .prepare_cached("SELECT * FROM agents WHERE id = ?1")?
                .query_row([id.to_string()], AgentView::of)
                .optional()
        })
        .await?;
    found.map(Json).ok_or_else(no_agent)
}

/// A per-agent token to be made without an enrolment, as by one click in the dashboard.
#[derive(Deserialize)]
pub(crate) struct NewAgent {
    name: Option<String>,
    default_tags: Option<Vec<String>>,
    default_role: Option<String>,
}

impl Wire for NewAgent {
    type Checked = Self;

    fn check(mut self) -> Result<Self, String> {
        if let Some(name) = &self.name {
            check_name(name)?;
        }
        let tags = self.default_tags.unwrap_or_default();
        self.default_tags = Some(read_tags("default_tags", &tags)?);
        self.default_role = read_role("default_role", self.default_role.as_deref())?;
        Ok(self)
    }
}

/// A per-agent token, which the operator sees this one time.
#[derive(Serialize)]
pub(crate) struct AgentToken {
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<Uuid>,
    token: String,
}

/// `POST /api/v1/agents`: makes an agent without a host, so no key is pinned.
pub(crate) async fn create(
    _: Admin,
    State(app): State<Arc<App>>,
    body: JsonBody<NewAgent>,
) -> Result<(StatusCode, Json<AgentToken>), Refusal> {
    let new = body.value;
    let id = Uuid::new_v4();
    let token = fresh_token(TokenKind::Agent).map_err(|_| Refusal::internal())?;
    let hash = TokenHash::of(&token);
    let now = app.clock.now();
    let tags = new.default_tags.unwrap_or_default();
    app.database
        .transact(move |savepoint| {
            let tags = to_json(&tags)?;
            savepoint
                .prepare_cached(
                    "INSERT INTO agents (id, name, token_sha256, default_tags, default_role, tags,
                                         role, created_at)
                     VALUES (:id, :name, :token, :tags, :role, :tags, :role, :now)",
                )?
                .execute(named_params! {
                    ":id": id.to_string(),
                    ":name": new.name,
                    ":token": hash.as_bytes(),
                    ":tags": tags,
                    ":role": new.default_role,
                    ":now": now,
                })
        })
        .await?;
    let agent_id = Some(id);
    Ok((StatusCode::CREATED, Json(AgentToken { agent_id, token })))
}

/// `POST /api/v1/agents/{id}/rotate-token`: replaces the token; the one before stops working at once.
pub(crate) async fn rotate_token(
    _: Admin,
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<AgentToken>, Refusal> {
    let token = fresh_token(TokenKind::Agent).map_err(|_| Refusal::internal())?;
    let hash = TokenHash::of(&token);
    let changed = app
        .database
        .transact(move |savepoint| {
            savepoint
                .prepare_cached("UPDATE agents SET token_sha256 = ?2 WHERE id = ?1")?
                .execute(params![id.to_string(), hash.as_bytes()])
        })
        .await?;
    if changed == 0 {
        return Err(no_agent());
    }
    Ok(Json(AgentToken {
        agent_id: None,
        token,
    }))
}

/// `POST /api/v1/agents/{id}/rotate-signing-key`: unpins the key, so that the next register pins one.
pub(crate) async fn rotate_signing_key(
    _: Admin,
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<StatusCode, Refusal> {
    let database = app.database.clone();
    database
        .transact(move |savepoint| unpin(savepoint, &app, id))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Unpins the key. From now on its receipts are refused, and not only once another key is pinned: the
/// operator does not trust it any more. A host that pins the same key again gets a new receipt.
fn unpin(savepoint: &Savepoint<'_>, app: &App, id: Uuid) -> Result<(), TransactionError> {
    let Some((before, key)) = revocations::last_receipt(savepoint, id, app.clock.now())? else {
        return Err(no_agent().into());
    };
    let changed = savepoint
        .prepare_cached(
            "UPDATE agents SET signing_pubkey = NULL, key_pinned_at = NULL
              WHERE id = ?1 AND signing_pubkey IS NOT NULL",
        )?
        .execute([id.to_string()])?;
    if changed > 0 {
        revocations::raise_floor(savepoint, id, before, key.as_deref(), false)?;
        let entry = Entry::KeyUnpinned {
            agent_id: id,
            key,
            before,
        };
        app.revoke(&[entry])?;
    }
    Ok(())
}

fn no_agent() -> Refusal {
    Refusal::not_found("agent")
}
