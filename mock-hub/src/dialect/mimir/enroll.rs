//! Mimir's enrollment: a secret and a certificate request in, a client certificate out.

use super::certificates::{Certified, read_csr, validity};
use crate::client_ca::ClientCa;
use crate::faults::Faults;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use hub::App;
use hub::body::{JsonBody, Wire};
use hub::clock::Millis;
use hub::database::TransactionError;
use hub::refusal::Refusal;
use rcgen::{PublicKey, PublicKeyData as _};
use rusqlite::{OptionalExtension as _, Savepoint, named_params, params};
use serde::Deserialize;
use std::ops::Range;
use std::sync::Arc;
use uuid::Uuid;

/// The fault point between the check of a secret and the claim of a use.
pub(super) const CLAIM: &str = "mimir-claim";

/// The body of an enrollment on the wire.
#[derive(Deserialize)]
pub(super) struct EnrollBody {
    enrollment_secret: String,
    hostname: String,
    csr: String,
}

/// A host that applies, by its checked body.
pub(super) struct Applicant {
    secret: String,
    hostname: String,
    key: PublicKey,
}

impl Wire for EnrollBody {
    type Checked = Applicant;

    fn check(self) -> Result<Applicant, String> {
        if !(1..=253).contains(&self.hostname.len()) || self.hostname.contains(char::is_control) {
            return Err("hostname: must be 1 to 253 bytes with no control character".to_owned());
        }
        Ok(Applicant {
            key: read_csr(&self.csr)?,
            secret: self.enrollment_secret,
            hostname: self.hostname,
        })
    }
}

/// `POST /api/v1/enroll`
pub(super) async fn enroll(
    State(app): State<Arc<App>>,
    State(faults): State<Arc<Faults>>,
    State(ca): State<Arc<ClientCa>>,
    body: JsonBody<EnrollBody>,
) -> Result<(StatusCode, Json<Certified>), Refusal> {
    let Applicant {
        secret,
        hostname,
        key,
    } = body.value;
    let point = key.der_bytes().to_vec();
    let applicant = point.clone();
    let candidates = app
        .database
        .transact(move |savepoint| candidates(savepoint, &applicant))
        .await?;
    let matching = tokio::task::spawn_blocking(move || {
        candidates
            .into_iter()
            .find(|(_, hash)| bcrypt::verify(&secret, hash).unwrap_or(false))
    });
    let (secret_id, _) = matching
        .await
        .map_err(|_| Refusal::internal())?
        .ok_or_else(Refusal::unauthorised)?;
    faults.pause(CLAIM).await;
    let now = app.clock.now();
    let (agent_id, valid) = app
        .database
        .transact(move |savepoint| admit(savepoint, &secret_id, &hostname, &point, now))
        .await?;
    Ok((
        StatusCode::CREATED,
        Certified::issue(&ca, agent_id, &key, &valid)?,
    ))
}

/// Returns ids and hashes of the secrets that may admit this key. A revoked or used-up secret is left
/// out, so that it counts as a wrong one.
fn candidates(savepoint: &Savepoint<'_>, key: &[u8]) -> rusqlite::Result<Vec<(String, String)>> {
    savepoint
        .prepare_cached(
            "SELECT id, bcrypt FROM mimir_secrets s
              WHERE revoked_at IS NULL
                AND (max_uses IS NULL OR uses < max_uses OR EXISTS (
                    SELECT 1 FROM mimir_uses u JOIN mimir_agents a ON a.id = u.agent_id
                     WHERE u.secret_id = s.id AND a.public_key = ?1))
              ORDER BY created_at, rowid",
        )?
        .query_map([key], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Claims a use, unless this key has one of this secret already, and stores the agent.
fn admit(
    savepoint: &Savepoint<'_>,
    secret_id: &str,
    hostname: &str,
    key: &[u8],
    now: Millis,
) -> Result<(String, Range<Millis>), TransactionError> {
    let known: Option<String> = savepoint
        .prepare_cached("SELECT id FROM mimir_agents WHERE public_key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    let agent_id = known.unwrap_or_else(|| Uuid::new_v4().to_string());
    let is_new_use = savepoint
        .prepare_cached("INSERT OR IGNORE INTO mimir_uses VALUES (?1, ?2, ?3)")?
        .execute(params![secret_id, agent_id, now])?
        != 0;
    let claimed = savepoint
        .prepare_cached(
            "UPDATE mimir_secrets SET uses = uses + :new
              WHERE id = :id AND revoked_at IS NULL
                AND (:new = 0 OR max_uses IS NULL OR uses < max_uses)",
        )?
        .execute(named_params! {":id": secret_id, ":new": is_new_use})?;
    if claimed == 0 {
        // A refused transaction is committed, so the use is deleted here.
        savepoint
            .prepare_cached("DELETE FROM mimir_uses WHERE ?3 AND secret_id = ?1 AND agent_id = ?2")?
            .execute(params![secret_id, agent_id, is_new_use])?;
        return Err(lost(savepoint, secret_id)?.into());
    }
    let valid = validity(savepoint, now)?;
    savepoint
        .prepare_cached(
            "INSERT INTO mimir_agents (id, hostname, public_key, certificates, created_at, expires_at)
             VALUES (:id, :hostname, :key, 1, :now, :expires)
                 ON CONFLICT (id) DO UPDATE
                SET hostname = excluded.hostname, expires_at = excluded.expires_at,
                    certificates = certificates + 1",
        )?
        .execute(named_params! {
            ":id": agent_id,
            ":hostname": hostname,
            ":key": key,
            ":now": now,
            ":expires": valid.end,
        })?;
    Ok((agent_id, valid))
}

/// Returns the refusal for a secret that has become invalid since it was checked.
fn lost(savepoint: &Savepoint<'_>, secret_id: &str) -> rusqlite::Result<Refusal> {
    let is_revoked: bool = savepoint
        .prepare_cached("SELECT revoked_at IS NOT NULL FROM mimir_secrets WHERE id = ?1")?
        .query_row([secret_id], |row| row.get(0))?;
    Ok(if is_revoked {
        Refusal::unauthorised()
    } else {
        let message = "Another agent took the last use of this enrollment secret.";
        Refusal::forbidden("secret_exhausted", message)
    })
}
