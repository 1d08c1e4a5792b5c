//! Mimir's enrollment secrets: the operator's calls.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use hub::App;
use hub::body::{JsonBody, Wire};
use hub::clock::{Millis, rfc3339};
use hub::labels::check_name;
use hub::refusal::Refusal;
use hub::request::{Admin, Id};
use hub::secret::fresh_secret;
use rusqlite::{OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// The lowest cost of bcrypt: tests enrol often, and none of their secrets is worth more.
const BCRYPT_COST: u32 = 4;
const MAX_USES: i64 = 1_000_000_000;

/// The body of a new secret on the wire.
#[derive(Deserialize)]
pub(super) struct NewSecret {
    name: String,
    max_uses: Option<i64>,
}

impl Wire for NewSecret {
    type Checked = Self;

    fn check(self) -> Result<Self, String> {
        check_name(&self.name)?;
        if self
            .max_uses
            .is_some_and(|uses| !(1..=MAX_USES).contains(&uses))
        {
            return Err(format!(
                "Failed to create enrollment secret: max_uses: must be 1 to {MAX_USES}, or null for no cap"
            ));
        }
        Ok(self)
    }
}

/// A secret, as shown to the operator.
#[derive(Serialize)]
pub(super) struct SecretView {
    id: String,
    name: String,
    created_at: String,
    uses: i64,
    max_uses: Option<i64>,
    /// The column "Uses" of Mimir's panel.
    uses_text: String,
    revoked_at: Option<String>,
}

impl SecretView {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let (uses, max_uses): (i64, Option<i64>) = (row.get("uses")?, row.get("max_uses")?);
        Ok(Self {
            id: row.get("id")?,
            name: row.get("name")?,
            created_at: rfc3339(row.get("created_at")?),
            uses,
            max_uses,
            uses_text: match (uses, max_uses) {
                (uses, Some(max_uses)) => format!("{uses} / {max_uses}"),
                (0, None) => "None yet".to_owned(),
                (uses, None) => uses.to_string(),
            },
            revoked_at: row.get::<_, Option<Millis>>("revoked_at")?.map(rfc3339),
        })
    }
}

/// A new secret, whose plaintext the operator sees this one time.
#[derive(Serialize)]
pub(super) struct Revealed {
    secret: String,
    #[serde(flatten)]
    view: SecretView,
}

/// `POST /api/v1/mimir/enrollment-secrets`: creates a secret. Names need not be unique.
pub(super) async fn create(
    _: Admin,
    State(app): State<Arc<App>>,
    body: JsonBody<NewSecret>,
) -> Result<(StatusCode, Json<Revealed>), Refusal> {
    let new = body.value;
    let secret = fresh_secret().map_err(|_| Refusal::internal())?;
    let hash = bcrypt::hash(&secret, BCRYPT_COST).map_err(|_| Refusal::internal())?;
    let now = app.clock.now();
    let view = app
        .database
        .transact(move |savepoint| {
            savepoint
                .prepare_cached(
                    "INSERT INTO mimir_secrets (id, name, bcrypt, max_uses, created_at)
                     VALUES (?1, ?2, ?3, ?4, ?5) RETURNING *",
                )?
                .query_row(
                    params![
                        Uuid::new_v4().to_string(),
                        new.name,
                        hash,
                        new.max_uses,
                        now
                    ],
                    SecretView::of,
                )
        })
        .await?;
    Ok((StatusCode::CREATED, Json(Revealed { secret, view })))
}

/// The two tables of Mimir's panel.
#[derive(Serialize)]
pub(super) struct Secrets {
    active: Vec<SecretView>,
    revoked: Vec<SecretView>,
}

/// `GET /api/v1/mimir/enrollment-secrets`: lists the secrets.
pub(super) async fn list(_: Admin, State(app): State<Arc<App>>) -> Result<Json<Secrets>, Refusal> {
    let all: Vec<SecretView> = app
        .database
        .transact(|savepoint| {
            savepoint
                .prepare_cached("SELECT * FROM mimir_secrets ORDER BY created_at, rowid")?
                .query_map([], SecretView::of)?
                .collect::<rusqlite::Result<_>>()
        })
        .await?;
    let (active, revoked) = all.into_iter().partition(|view| view.revoked_at.is_none());
    Ok(Json(Secrets { active, revoked }))
}

/// `POST /api/v1/mimir/enrollment-secrets/{id}/revoke`: revokes a secret at once and for good.
pub(super) async fn revoke(
    _: Admin,
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<SecretView>, Refusal> {
    let now = app.clock.now();
    let revoked = app
        .database
        .transact(move |savepoint| {
            savepoint
                .prepare_cached(
                    "UPDATE mimir_secrets SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1
                  RETURNING *",
                )?
                .query_row(params![id.to_string(), now], SecretView::of)
                .optional()
        })
        .await?;
    revoked
        .map(Json)
        .ok_or_else(|| Refusal::not_found("enrollment secret"))
}
