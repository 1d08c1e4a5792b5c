//! Enrolment tokens: the operator's calls to create, list and revoke them, and the audit of their uses.

use crate::app::App;
use crate::body::{JsonBody, Wire};
use crate::cidr::parse_list;
use crate::clock::{Millis, millis, rfc3339};
use crate::database::{from_json, to_json};
use crate::labels::{check_name, read_role, read_tags};
use crate::refusal::Refusal;
use crate::request::{Admin, Id};
use crate::revocations::Entry;
use crate::secret::{TokenHash, TokenKind, fresh_token};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rusqlite::{OptionalExtension as _, Row, Savepoint, named_params, params};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// One hour to thirty days.
const TTL_SECS: RangeInclusive<u64> = 3_600..=2_592_000;
const MAX_USES: RangeInclusive<i64> = 1..=1_000_000_000;

/// The body of a new token on the wire.
#[derive(Deserialize)]
pub(crate) struct NewTokenBody {
    name: String,
    ttl_secs: u64,
    max_uses: i64,
    default_tags: Option<Vec<String>>,
    default_role: Option<String>,
    allowed_cidrs: Option<Vec<String>>,
}

/// A new token by its checked body.
pub(crate) struct NewToken {
    name: String,
    ttl: Duration,
    max_uses: i64,
    default_tags: Vec<String>,
    default_role: Option<String>,
    /// In their canonical form.
    allowed_cidrs: Vec<String>,
}

impl Wire for NewTokenBody {
    type Checked = NewToken;

    fn check(self) -> Result<NewToken, String> {
        check_name(&self.name)?;
        if !TTL_SECS.contains(&self.ttl_secs) {
            return Err("ttl_secs: must be 3600 (1 hour) to 2592000 (30 days)".to_owned());
        }
        if !MAX_USES.contains(&self.max_uses) {
            return Err("max_uses: must be 1 to 1000000000".to_owned());
        }
        let default_tags = self.default_tags.unwrap_or_default();
        let default_tags = read_tags("default_tags", &default_tags)?;
        let default_role = read_role("default_role", self.default_role.as_deref())?;
        let allowed_cidrs = parse_list(self.allowed_cidrs)?;
        Ok(NewToken {
            name: self.name,
            ttl: Duration::from_secs(self.ttl_secs),
            max_uses: self.max_uses,
            default_tags,
            default_role,
            allowed_cidrs,
        })
    }
}

/// Tokens, each with its last use from the audit, which may be one that spent nothing.
const TOKENS: &str = "SELECT t.*, u.last_used_at, u.agent_id AS last_used_by,
                             u.last_source_ip AS last_used_from
                        FROM enrolment_tokens t
                        LEFT JOIN enrolment_uses u ON u.id = (
                             SELECT id FROM enrolment_uses WHERE token_id = t.id
                              ORDER BY last_used_at DESC LIMIT 1)";

/// A token, as the operator sees it.
#[derive(Serialize)]
pub(crate) struct TokenView {
    id: String,
    name: String,
    status: &'static str,
    uses: i64,
    max_uses: i64,
    default_tags: Vec<String>,
    default_role: Option<String>,
    allowed_cidrs: Vec<String>,
    created_at: String,
    expires_at: String,
    revoked_at: Option<String>,
    last_used_at: Option<String>,
    last_used_by: Option<String>,
    last_used_from: Option<String>,
}

impl TokenView {
    fn of(row: &Row<'_>, now: Millis) -> rusqlite::Result<Self> {
        let (uses, max_uses) = (row.get("uses")?, row.get("max_uses")?);
        let expires_at: Millis = row.get("expires_at")?;
        let revoked_at: Option<Millis> = row.get("revoked_at")?;
        let last_used_at: Option<Millis> = row.get("last_used_at")?;
        let status = if revoked_at.is_some() {
            "revoked"
        } else if expires_at <= now {
            "expired"
        } else if uses >= max_uses {
            "exhausted"
        } else {
            "active"
        };
        Ok(Self {
            id: row.get("id")?,
            name: row.get("name")?,
            status,
            uses,
            max_uses,
            default_tags: from_json(row, "default_tags")?,
            default_role: row.get("default_role")?,
            allowed_cidrs: from_json(row, "allowed_cidrs")?,
            created_at: rfc3339(row.get("created_at")?),
            expires_at: rfc3339(expires_at),
            revoked_at: revoked_at.map(rfc3339),
            last_used_at: last_used_at.map(rfc3339),
            last_used_by: row.get("last_used_by")?,
            last_used_from: row.get("last_used_from")?,
        })
    }
}

/// A new token, whose secret the operator sees this one time.
#[derive(Serialize)]
pub(crate) struct CreatedToken {
    token: String,
    #[serde(flatten)]
    view: TokenView,
}

/// `POST /api/v1/enrolment-tokens`: creates a token.
pub(crate) async fn create(
    _: Admin,
    State(app): State<Arc<App>>,
    body: JsonBody<NewTokenBody>,
) -> Result<(StatusCode, Json<CreatedToken>), Refusal> {
    let token = fresh_token(TokenKind::Enrolment).map_err(|_| Refusal::internal())?;
    let hash = TokenHash::of(&token);
    let now = app.clock.now();
    let view = app
        .database
        .transact(move |savepoint| insert(savepoint, &body.value, hash, now))
        .await?;
    Ok((StatusCode::CREATED, Json(CreatedToken { token, view })))
}

fn insert(
    savepoint: &Savepoint<'_>,
    new: &NewToken,
    hash: TokenHash,
    now: Millis,
) -> rusqlite::Result<TokenView> {
    let id = Uuid::new_v4();
    savepoint
        .prepare_cached(
            "INSERT INTO enrolment_tokens (id, name, token_sha256, max_uses, default_tags,
                                           default_role, allowed_cidrs, created_at, expires_at)
             VALUES (:id, :name, :token, :max_uses, :tags, :role, :cidrs, :now, :expires)",
        )?
        .execute(named_params! {
            ":id": id.to_string(),
            ":name": new.name,
            ":token": hash.as_bytes(),
            ":max_uses": new.max_uses,
            ":tags": to_json(&new.default_tags)?,
            ":role": new.default_role,
            ":cidrs": to_json(&new.allowed_cidrs)?,
            ":now": now,
            ":expires": now.saturating_add(millis(new.ttl)),
        })?;
    find(savepoint, id, now)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// The operator's list.
#[derive(Serialize)]
pub(crate) struct Tokens {
    enrolment_tokens: Vec<TokenView>,
}

/// `GET /api/v1/enrolment-tokens`
pub(crate) async fn list(_: Admin, State(app): State<Arc<App>>) -> Result<Json<Tokens>, Refusal> {
    let now = app.clock.now();
    let enrolment_tokens = app
        .database
        .transact(move |savepoint| {
            savepoint
                .prepare_cached(&format!("{TOKENS} ORDER BY t.created_at, t.rowid"))?
                .query_map([], |row| TokenView::of(row, now))?
                .collect()
        })
        .await?;
    Ok(Json(Tokens { enrolment_tokens }))
}

/// `GET /api/v1/enrolment-tokens/{id}`
pub(crate) async fn get(
    _: Admin,
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<TokenView>, Refusal> {
    let now = app.clock.now();
    let found = app
        .database
        .transact(move |savepoint| find(savepoint, id, now))
        .await?;
    found.map(Json).ok_or_else(no_token)
}

/// `POST /api/v1/enrolment-tokens/{id}/revoke`: revokes the token at once and for good. Agents that it
/// has admitted keep working.
pub(crate) async fn revoke(
    _: Admin,
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<TokenView>, Refusal> {
    let now = app.clock.now();
    let database = app.database.clone();
    let found = database
        .transact(move |savepoint| {
            let changed = savepoint
                .prepare_cached(
                    "UPDATE enrolment_tokens SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
                )?
                .execute(params![id.to_string(), now])?;
            if changed > 0 {
                app.revoke(&[Entry::TokenRevoked { token_id: id }])?;
            }
            find(savepoint, id, now)
        })
        .await?;
    found.map(Json).ok_or_else(no_token)
}

fn find(savepoint: &Savepoint<'_>, id: Uuid, now: Millis) -> rusqlite::Result<Option<TokenView>> {
    savepoint
        .prepare_cached(&format!("{TOKENS} WHERE t.id = ?1"))?
        .query_row([id.to_string()], |row| TokenView::of(row, now))
        .optional()
}

/// The audit of one token.
#[derive(Serialize)]
pub(crate) struct Uses {
    uses: Vec<UseView>,
}

#[derive(Serialize)]
struct UseView {
    token_id: String,
    agent_id: String,
    source_ip: String,
    used_at: String,
    last_source_ip: String,
    last_used_at: String,
}

impl UseView {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            token_id: row.get("token_id")?,
            agent_id: row.get("agent_id")?,
            source_ip: row.get("source_ip")?,
            used_at: rfc3339(row.get("used_at")?),
            last_source_ip: row.get("last_source_ip")?,
            last_used_at: rfc3339(row.get("last_used_at")?),
        })
    }
}

/// `GET /api/v1/enrolment-tokens/{id}/uses`
pub(crate) async fn uses(
    _: Admin,
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<Uses>, Refusal> {
    let now = app.clock.now();
    let found = app
        .database
        .transact(move |savepoint| {
            let uses: rusqlite::Result<Vec<UseView>> = savepoint
                .prepare_cached("SELECT * FROM enrolment_uses WHERE token_id = ?1 ORDER BY id")?
                .query_map([id.to_string()], UseView::of)?
                .collect();
            find(savepoint, id, now)?.map(|_| uses).transpose()
        })
        .await?;
    found.map(|uses| Json(Uses { uses })).ok_or_else(no_token)
}

fn no_token() -> Refusal {
    Refusal::not_found("enrolment token")
}
