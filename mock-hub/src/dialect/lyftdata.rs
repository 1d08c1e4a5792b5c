//! `LyftData`: an HMAC of a shared secret and a nonce in, a worker's id and an API key out.
//!
//! What its documentation tells (the two calls of auto enrolment, the enrolment, the key that all
//! workers share, its Community Edition) is as it tells it. It names no fields of the enrolment, so
//! those are the contract's. These are ours: a worker may ask for an id (`worker`); ids and names are
//! unique, so that a lost answer ends in "already exists" and never in a second worker; a nonce
//! counts once; an operator removes a worker with DELETE, and chooses the edition.

use super::Faulty;
use crate::App;
use crate::clock::{Millis, rfc3339};
use crate::database::Stop;
use crate::faults::Route;
use crate::refusal::Refusal;
use crate::request::{Admin, JsonBody, Wire};
use crate::secret::fresh_secret;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use data_encoding::HEXLOWER_PERMISSIVE;
use ring::hmac;
use rusqlite::{OptionalExtension as _, Savepoint, params};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS lyftdata_enrolment (
    only      INTEGER PRIMARY KEY CHECK (only = 1),
    enabled   INTEGER NOT NULL DEFAULT 0,
    secret    TEXT,
    api_key   TEXT,
    community INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT OR IGNORE INTO lyftdata_enrolment (only) VALUES (1);
CREATE TABLE IF NOT EXISTS lyftdata_workers (
    worker      TEXT PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    api_key     TEXT NOT NULL,
    enrolled_at INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS lyftdata_nonces (
    nonce   TEXT PRIMARY KEY,
    used_at INTEGER NOT NULL
) STRICT;
";

const COMMUNITY: &str = "Community Edition only supports the built-in worker";

pub(super) fn routes(faulty: Faulty<'_>) -> Router<Arc<App>> {
    Router::new()
        .route(
            "/api/workers/enroll",
            faulty(Route::LyftdataEnroll, post(enroll)),
        )
        .route("/api/workers/auto-enrollment", get(shown).post(configure))
        .route("/api/workers/edition", post(edition))
        .route("/api/workers", get(list))
        .route("/api/workers/{worker}", delete(remove))
}

/// The body of an enrolment on the wire.
#[derive(Deserialize)]
struct Enrolment {
    name: String,
    nonce: String,
    hmac: String,
    worker: Option<String>,
}

impl Wire for Enrolment {
    type Checked = Self;

    fn check(self) -> Result<Self, String> {
        check_text("name", &self.name)?;
        if let Some(worker) = &self.worker {
            check_text("worker", worker)?;
        }
        if self.nonce.len() != 32 || from_hex(&self.nonce).is_none() {
            return Err("nonce: must be 32 hexadecimal digits".to_owned());
        }
        if self.hmac.len() != 64 || from_hex(&self.hmac).is_none() {
            return Err("hmac: must be 64 hexadecimal digits".to_owned());
        }
        Ok(self)
    }
}

fn check_text(field: &str, text: &str) -> Result<(), String> {
    if (1..=128).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!(
        "{field}: must be 1 to 128 characters with no control character"
    ))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()
}

/// What a worker is told when it has enrolled.
#[derive(Serialize)]
struct Enrolled {
    worker: String,
    name: String,
    api_key: String,
}

/// `POST /api/workers/enroll`
async fn enroll(
    State(app): State<Arc<App>>,
    body: JsonBody<Enrolment>,
) -> Result<Json<Enrolled>, Refusal> {
    let body = body.value;
    let now = app.clock.now();
    let fresh_key = fresh_secret().map_err(|_| Refusal::internal())?;
    let enrolled = app
        .database
        .transact(move |savepoint| admit(savepoint, body, fresh_key, now))
        .await?;
    Ok(Json(enrolled))
}

fn admit(
    savepoint: &Savepoint<'_>,
    body: Enrolment,
    fresh_key: String,
    now: Millis,
) -> Result<Enrolled, Stop> {
    let (enabled, secret, key, community) = savepoint
        .prepare_cached("SELECT enabled, secret, api_key, community FROM lyftdata_enrolment")?
        .query_row([], |row| {
            Ok((
                row.get::<_, bool>(0)?,
                row.get::<_, Option<String>>(1)?,
                row.get::<_, Option<String>>(2)?,
                row.get::<_, bool>(3)?,
            ))
        })?;
    if community {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "community_edition", COMMUNITY).into());
    }
    let secret = secret.filter(|_| enabled);
    if !secret.is_some_and(|secret| is_proof(&secret, &body)) {
        tracing::warn!("attempted auto enrollment, but secret was incorrect");
        return Err(Refusal::unauthorised().into());
    }
    let is_new = savepoint
        .prepare_cached("INSERT INTO lyftdata_nonces VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute(params![body.nonce.to_ascii_lowercase(), now])?;
    if is_new == 0 {
        tracing::warn!("attempted auto enrollment, but the nonce was used before");
        return Err(Refusal::unauthorised().into());
    }
    let worker = body.worker.unwrap_or_else(|| Uuid::new_v4().to_string());
    let taken = savepoint
        .prepare_cached("SELECT worker FROM lyftdata_workers WHERE worker = ?1 OR name = ?2")?
        .query_row(params![worker, body.name], |row| row.get::<_, String>(0))
        .optional()?;
    if let Some(taken) = taken {
        let cause = format!("auto enrollment error, requested worker ID {taken} already exists");
        tracing::warn!("{cause}");
        return Err(Refusal::new(StatusCode::CONFLICT, "already_exists", cause).into());
    }
    // The first worker brings the key that all the others get, until an admin gives another.
    let api_key = key.unwrap_or(fresh_key);
    savepoint
        .prepare_cached("UPDATE lyftdata_enrolment SET api_key = ?1")?
        .execute([&api_key])?;
    savepoint
        .prepare_cached("INSERT INTO lyftdata_workers VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![worker, body.name, api_key, now])?;
    Ok(Enrolled {
        worker,
        name: body.name,
        api_key,
    })
}

/// Compares in constant time.
fn is_proof(secret: &str, body: &Enrolment) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let message = format!("{}\n{}", body.nonce, body.name);
    let proof = from_hex(&body.hmac).unwrap_or_default();
    hmac::verify(&key, message.as_bytes(), &proof).is_ok()
}

/// The body of the operator's call. What is left out, or null, stays as it is.
#[derive(Deserialize)]
struct Configuration {
    enabled: bool,
    enrollment_secret: Option<String>,
    enrollment_api_key: Option<String>,
}

impl Wire for Configuration {
    type Checked = Self;

    fn check(self) -> Result<Self, String> {
        if self.enabled && self.enrollment_secret.is_none() {
            return Err("enrollment_secret: must be present when enabled is true".to_owned());
        }
        for (field, text) in [
            ("enrollment_secret", &self.enrollment_secret),
            ("enrollment_api_key", &self.enrollment_api_key),
        ] {
            if let Some(text) = text {
                check_text(field, text)?;
            }
        }
        Ok(self)
    }
}

/// The stored state; secret and key are hidden.
#[derive(Serialize)]
struct Shown {
    enabled: bool,
    enrollment_secret: Option<&'static str>,
    enrollment_api_key: Option<&'static str>,
}

/// `POST /api/workers/auto-enrollment`
async fn configure(
    _: Admin,
    State(app): State<Arc<App>>,
    body: JsonBody<Configuration>,
) -> Result<Json<Shown>, Refusal> {
    let body = body.value;
    let shown = app
        .database
        .transact(move |savepoint| -> Result<Shown, Stop> {
            savepoint
                .prepare_cached(
                    "UPDATE lyftdata_enrolment SET enabled = ?1, secret = coalesce(?2, secret),
                            api_key = coalesce(?3, api_key)",
                )?
                .execute(params![
                    body.enabled,
                    body.enrollment_secret,
                    body.enrollment_api_key
                ])?;
            Ok(stored(savepoint)?)
        })
        .await?;
    Ok(Json(shown))
}

/// `GET /api/workers/auto-enrollment`
async fn shown(_: Admin, State(app): State<Arc<App>>) -> Result<Json<Shown>, Refusal> {
    let shown = app
        .database
        .transact(|savepoint| -> Result<Shown, Stop> { Ok(stored(savepoint)?) })
        .await?;
    Ok(Json(shown))
}

fn stored(savepoint: &Savepoint<'_>) -> rusqlite::Result<Shown> {
    let hidden = |is_there: bool| is_there.then_some("hidden");
    savepoint
        .prepare_cached(
            "SELECT enabled, secret IS NOT NULL, api_key IS NOT NULL FROM lyftdata_enrolment",
        )?
        .query_row([], |row| {
            Ok(Shown {
                enabled: row.get(0)?,
                enrollment_secret: hidden(row.get(1)?),
                enrollment_api_key: hidden(row.get(2)?),
            })
        })
}

/// Which edition the hub is.
#[derive(Deserialize)]
struct Edition {
    community: bool,
}

impl Wire for Edition {
    type Checked = Self;

    fn check(self) -> Result<Self, String> {
        Ok(self)
    }
}

/// `POST /api/workers/edition`
async fn edition(
    _: Admin,
    State(app): State<Arc<App>>,
    body: JsonBody<Edition>,
) -> Result<StatusCode, Refusal> {
    let community = body.value.community;
    app.database
        .transact(move |savepoint| -> Result<(), Stop> {
            savepoint
                .prepare_cached("UPDATE lyftdata_enrolment SET community = ?1")?
                .execute([community])?;
            Ok(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A worker, as the operator sees it.
#[derive(Serialize)]
struct Worker {
    #[serde(rename = "worker")]
    id: String,
    name: String,
    auto_enrolled: bool,
    enrolled_at: String,
}

/// `GET /api/workers`
async fn list(_: Admin, State(app): State<Arc<App>>) -> Result<Json<Vec<Worker>>, Refusal> {
    let workers = app
        .database
        .transact(|savepoint| -> Result<Vec<Worker>, Stop> {
            let mut statement = savepoint.prepare_cached(
                "SELECT worker, name, enrolled_at FROM lyftdata_workers ORDER BY enrolled_at, name",
            )?;
            let workers = statement.query_map([], |row| {
                Ok(Worker {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    auto_enrolled: true,
                    enrolled_at: rfc3339(row.get(2)?),
                })
            })?;
            Ok(workers.collect::<Result<_, _>>()?)
        })
        .await?;
    Ok(Json(workers))
}

/// `DELETE /api/workers/{worker}`
async fn remove(
    _: Admin,
    State(app): State<Arc<App>>,
    Path(worker): Path<String>,
) -> Result<StatusCode, Refusal> {
    app.database
        .transact(move |savepoint| -> Result<(), Stop> {
            let removed = savepoint
                .prepare_cached("DELETE FROM lyftdata_workers WHERE worker = ?1")?
                .execute([worker])?;
            if removed == 0 {
                return Err(Refusal::not_found("worker").into());
            }
            Ok(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
