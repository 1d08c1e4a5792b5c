//! Mimir: an enrollment secret in, a client certificate out.
//!
//! What its documentation tells (secrets, caps, the two refusals, revoking) is as it tells it.
//! It names neither addresses nor fields, so those are ours, and so are these three: the same
//! public key with the same secret is the same agent and takes no second slot; an agent proves
//! itself, and counts as seen, by `GET /api/v1/agent/self`; it renews its certificate by
//! `POST /api/v1/agent/renew`, for the same key.

use super::Faulty;
use crate::App;
use crate::clock::{Millis, rfc3339};
use crate::database::Stop;
use crate::faults::Route;
use crate::refusal::Refusal;
use crate::request::{Admin, Id, JsonBody, Peer, Wire};
use crate::secret::fresh_secret;
use crate::tokens::check_name;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use rcgen::{CertificateSigningRequestParams, PublicKey, PublicKeyData as _};
use rusqlite::{OptionalExtension as _, Row, Savepoint, named_params, params};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;
use uuid::Uuid;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The lowest cost that there is: tests enrol often, and no secret of theirs is worth more.
const BCRYPT_COST: u32 = 4;
const MAX_USES: i64 = 1_000_000_000;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS mimir_secrets (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    bcrypt     TEXT NOT NULL,
    max_uses   INTEGER CHECK (max_uses >= 1),
    uses       INTEGER NOT NULL DEFAULT 0 CHECK (max_uses IS NULL OR uses <= max_uses),
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS mimir_agents (
    id           TEXT PRIMARY KEY,
    hostname     TEXT NOT NULL,
    public_key   BLOB NOT NULL UNIQUE,
    certificates INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    last_seen_at INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS mimir_uses (
    secret_id TEXT NOT NULL REFERENCES mimir_secrets (id),
    agent_id  TEXT NOT NULL,
    used_at   INTEGER NOT NULL,
    PRIMARY KEY (secret_id, agent_id)
) STRICT;
CREATE TABLE IF NOT EXISTS mimir_certificates (
    only          INTEGER PRIMARY KEY CHECK (only = 1),
    lifetime_secs INTEGER NOT NULL,
    age_secs      INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO mimir_certificates VALUES (1, 90 * 86400, 60);
";

pub(super) fn routes(faulty: Faulty<'_>) -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/enroll", faulty(Route::MimirEnroll, post(enroll)))
        .route("/api/v1/agent/self", faulty(Route::MimirSelf, get(myself)))
        .route(
            "/api/v1/agent/renew",
            faulty(Route::MimirRenew, post(renew)),
        )
        .route(
            "/api/v1/mimir/enrollment-secrets",
            get(list_secrets).post(create_secret),
        )
        .route(
            "/api/v1/mimir/enrollment-secrets/{id}/revoke",
            post(revoke_secret),
        )
        .route("/api/v1/mimir/agents", get(list_agents))
        .route("/api/v1/mimir/agents/{id}", delete(delete_agent))
        .route("/api/v1/mimir/certificates", post(set_certificates))
}

/// A host that wants in, on the wire.
#[derive(Deserialize)]
struct EnrollBody {
    enrollment_secret: String,
    hostname: String,
    csr: String,
}

struct Applicant {
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

/// The key of a PKCS#10 request in PEM, whose signature shows that the host has the other half.
fn read_csr(pem: &str) -> Result<PublicKey, String> {
    let request =
        CertificateSigningRequestParams::from_pem(pem).map_err(|cause| format!("csr: {cause}"))?;
    let key = request.public_key;
    // An uncompressed point of P-256: the name of the signature does not name the curve.
    if key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != 65 {
        return Err("csr: the key must be ECDSA on P-256, and signed with SHA-256".to_owned());
    }
    Ok(key)
}

/// What a certificate comes with on the wire.
#[derive(Serialize)]
struct Certified {
    agent_id: String,
    certificate_pem: String,
    ca_pem: String,
}

impl Certified {
    fn new(
        app: &App,
        agent_id: String,
        key: &PublicKey,
        valid: &Range<Millis>,
    ) -> Result<Json<Self>, Refusal> {
        let certificate_pem = app
            .client_ca
            .issue(&agent_id, key, valid)
            .map_err(|cause| {
                tracing::error!(cause = cause.0, "signing a certificate");
                Refusal::internal()
            })?;
        Ok(Json(Self {
            agent_id,
            certificate_pem,
            ca_pem: app.client_ca.pem().to_owned(),
        }))
    }
}

/// `POST /api/v1/enroll`
async fn enroll(
    State(app): State<Arc<App>>,
    body: JsonBody<EnrollBody>,
) -> Result<(StatusCode, Json<Certified>), Refusal> {
    let Applicant {
        secret,
        hostname,
        key,
    } = body.value;
    let point = key.der_bytes().to_vec();
    let asked = point.clone();
    let candidates = app
        .database
        .transact(move |savepoint| candidates(savepoint, &asked))
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
    app.faults.pause(Route::MimirClaim).await;
    let now = app.clock.now();
    let (agent_id, valid) = app
        .database
        .transact(move |savepoint| admit(savepoint, &secret_id, &hostname, &point, now))
        .await?;
    Ok((
        StatusCode::CREATED,
        Certified::new(&app, agent_id, &key, &valid)?,
    ))
}

/// Ids and hashes of the secrets that may let this key in. A secret that is revoked or used up
/// is not even looked at, which makes it the same as a wrong one.
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

/// Takes a slot, unless this key has had one of this secret, and keeps the agent.
fn admit(
    savepoint: &Savepoint<'_>,
    secret_id: &str,
    hostname: &str,
    key: &[u8],
    now: Millis,
) -> Result<(String, Range<Millis>), Stop> {
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
        // What a refusal leaves behind is committed, so the use is taken back by hand.
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

/// Why a secret that was good a moment ago is not any more.
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

/// From when until when a certificate of now is good.
fn validity(savepoint: &Savepoint<'_>, now: Millis) -> rusqlite::Result<Range<Millis>> {
    let (lifetime, age): (Millis, Millis) = savepoint
        .prepare_cached("SELECT lifetime_secs, age_secs FROM mimir_certificates")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let start = now.saturating_sub(age.saturating_mul(1000));
    Ok(start..start.saturating_add(lifetime.saturating_mul(1000)))
}

/// The key that a caller has proved in TLS to hold, if its certificate is good by the hub's clock.
fn proven_key(app: &App, peer: &Peer) -> Result<Vec<u8>, Refusal> {
    let key = peer.certificate.as_ref().and_then(|certificate| {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let expires_at = certificate.validity().not_after.timestamp();
        let key = certificate.public_key().subject_public_key.data.to_vec();
        (app.clock.now() / 1000 <= expires_at).then_some(key)
    });
    key.ok_or_else(|| {
        tracing::info!("a call without a client certificate, or with an expired one");
        Refusal::unauthorised()
    })
}

/// An agent, as itself and the operator see it.
#[derive(Serialize)]
struct AgentView {
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

/// `GET /api/v1/agent/self`, under a client certificate: the hub sees the agent.
async fn myself(State(app): State<Arc<App>>, peer: Peer) -> Result<Json<AgentView>, Refusal> {
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

#[derive(Deserialize)]
struct RenewBody {
    csr: String,
}

impl Wire for RenewBody {
    type Checked = PublicKey;

    fn check(self) -> Result<PublicKey, String> {
        read_csr(&self.csr)
    }
}

/// `POST /api/v1/agent/renew`, under a client certificate: a fresh one for the same key.
async fn renew(
    State(app): State<Arc<App>>,
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
    Certified::new(&app, agent_id, &body.value, &valid)
}

/// A secret to be made, on the wire.
#[derive(Deserialize)]
struct NewSecret {
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
            let cause = "max_uses: must be a positive integer, or null for no cap";
            return Err(format!("Failed to create enrollment secret: {cause}"));
        }
        Ok(self)
    }
}

/// A secret, as the operator sees it.
#[derive(Serialize)]
struct SecretView {
    id: String,
    name: String,
    created_at: String,
    uses: i64,
    max_uses: Option<i64>,
    /// The column "Uses".
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

/// The reveal card: the one time that the plaintext is shown.
#[derive(Serialize)]
struct Revealed {
    secret: String,
    #[serde(flatten)]
    view: SecretView,
}

/// `POST /api/v1/mimir/enrollment-secrets`. Names need not be unique.
async fn create_secret(
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

/// The two tables of the panel.
#[derive(Serialize)]
struct Secrets {
    active: Vec<SecretView>,
    revoked: Vec<SecretView>,
}

/// `GET /api/v1/mimir/enrollment-secrets`
async fn list_secrets(_: Admin, State(app): State<Arc<App>>) -> Result<Json<Secrets>, Refusal> {
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

/// `POST /api/v1/mimir/enrollment-secrets/{id}/revoke`: at once, and for good.
async fn revoke_secret(
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

#[derive(Serialize)]
struct Agents {
    agents: Vec<AgentView>,
}

/// `GET /api/v1/mimir/agents`: the page "Hosts" has those that have been seen.
async fn list_agents(_: Admin, State(app): State<Arc<App>>) -> Result<Json<Agents>, Refusal> {
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

/// `DELETE /api/v1/mimir/agents/{id}`: its certificate opens nothing any more.
async fn delete_agent(
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

/// How certificates are made from now on. One with an age is as if it had been made so long ago.
#[derive(Deserialize, Serialize)]
struct CertificateRules {
    lifetime_secs: i64,
    #[serde(default)]
    age_secs: i64,
}

impl Wire for CertificateRules {
    type Checked = Self;

    fn check(self) -> Result<Self, String> {
        const TEN_YEARS: i64 = 315_360_000;
        if (1..=TEN_YEARS).contains(&self.lifetime_secs)
            && (-TEN_YEARS..=TEN_YEARS).contains(&self.age_secs)
        {
            Ok(self)
        } else {
            Err("lifetime_secs, age_secs: at most ten years".to_owned())
        }
    }
}

/// `POST /api/v1/mimir/certificates`
async fn set_certificates(
    _: Admin,
    State(app): State<Arc<App>>,
    body: JsonBody<CertificateRules>,
) -> Result<Json<CertificateRules>, Refusal> {
    let rules = body.value;
    let (lifetime, age) = (rules.lifetime_secs, rules.age_secs);
    app.database
        .transact(move |savepoint| {
            savepoint
                .prepare_cached("UPDATE mimir_certificates SET lifetime_secs = ?1, age_secs = ?2")?
                .execute([lifetime, age])
        })
        .await?;
    Ok(Json(rules))
}
