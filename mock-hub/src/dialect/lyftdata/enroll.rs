//! LyftData's auto enrolment of a worker.

use super::text::check_text;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use data_encoding::HEXLOWER_PERMISSIVE;
use hub::App;
use hub::body::{JsonBody, Wire};
use hub::clock::Millis;
use hub::database::TransactionError;
use hub::refusal::Refusal;
use hub::secret::fresh_secret;
use ring::hmac;
use rusqlite::{OptionalExtension as _, Savepoint, params};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

const COMMUNITY: &str = "Community Edition only supports the built-in worker";

/// The body of an enrolment on the wire.
#[derive(Deserialize)]
pub(super) struct Enrolment {
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

fn from_hex(text: &str) -> Option<Vec<u8>> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()
}

/// The response to an enrolment.
#[derive(Serialize)]
pub(super) struct Enrolled {
    worker: String,
    name: String,
    api_key: String,
}

/// `POST /api/workers/enroll`: admits a worker by its proof of the shared secret.
pub(super) async fn enroll(
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
) -> Result<Enrolled, TransactionError> {
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
        .prepare_cached("SELECT worker FROM lyftdata_workers_2 WHERE worker = ?1")?
        .query_row([&worker], |row| row.get::<_, String>(0))
        .optional()?;
    if let Some(taken) = taken {
        let cause = format!("auto enrollment error, requested worker ID {taken} already exists");
        tracing::warn!("{cause}");
        return Err(Refusal::new(StatusCode::CONFLICT, "already_exists", cause).into());
    }
    // All workers get the key of the first one, until an admin sets another.
    let api_key = key.unwrap_or(fresh_key);
    savepoint
        .prepare_cached("UPDATE lyftdata_enrolment SET api_key = ?1")?
        .execute([&api_key])?;
    savepoint
        .prepare_cached("INSERT INTO lyftdata_workers_2 VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![worker, body.name, api_key, now])?;
    Ok(Enrolled {
        worker,
        name: body.name,
        api_key,
    })
}

/// Verifies the HMAC in constant time.
fn is_proof(secret: &str, body: &Enrolment) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let message = format!("{}\n{}", body.nonce, body.name);
    let proof = from_hex(&body.hmac).unwrap_or_default();
    hmac::verify(&key, message.as_bytes(), &proof).is_ok()
}
