//! `POST /api/v1/agents/readmit`: a lost agent comes back under its own id.

use super::door::Visitor;
use crate::agents;
use crate::anomalies::{Anomaly, CheckContext};
use crate::app::App;
use crate::body::{RawBody, Wire};
use crate::clock::{Millis, parse_rfc3339};
use crate::database::{TransactionError, from_json, to_json};
use crate::deleted_agents::{is_deleted, is_key_refused};
use crate::enrol::Enrolled;
use crate::host::{Host, Registration};
use crate::labels::{merge_role, merge_tags};
use crate::receipt::{self, Receipt, Subject, TENANT, fingerprint, key_hash};
use crate::refusal::Refusal;
use crate::request::Source;
use crate::revocations::is_below_floor;
use crate::secret::{TokenHash, TokenKind, fresh_token, sha256};
use crate::signature::{PublicKey, SignatureCheck, verify_message};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use rusqlite::{OptionalExtension as _, Savepoint, named_params, params};
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;
use uuid::Uuid;

/// The most by which `at` may differ from the hub's clock.
const TOLERANCE: Millis = 5 * 60 * 1000;

/// The fields of the body beside those of an enrolment.
#[derive(Deserialize)]
struct ReadmissionFields {
    receipt: String,
    at: String,
}

impl Wire for ReadmissionFields {
    type Checked = (String, Millis);

    fn check(self) -> Result<(String, Millis), String> {
        let at = parse_rfc3339(&self.at).ok_or("at: must be an RFC 3339 time")?;
        Ok((self.receipt, at))
    }
}

/// Readmits an agent by its receipt. Every reason to refuse gives the plain 401.
pub(crate) async fn readmit(
    State(app): State<Arc<App>>,
    Source(source): Source,
    headers: HeaderMap,
    body: RawBody,
) -> Result<(StatusCode, Json<Enrolled>), Refusal> {
    let host = body.json::<Registration>()?;
    let (text, at) = body.json::<ReadmissionFields>()?;
    let agent_token = fresh_token(TokenKind::Agent).map_err(|_| Refusal::internal())?;
    let attempt = Attempt {
        body_sha256: sha256(&body.bytes),
        agent_token: TokenHash::of(&agent_token),
        source,
        now: app.clock.now(),
        steady: app.clock.steady(),
    };
    let receipt = attempt
        .verify(&app, &headers, &host, &text, at)
        .ok_or_else(Refusal::unauthorised)?;

    let iss = app.origins.selected_by(&headers).to_string();
    let database = app.database.clone();
    let shared = Arc::clone(&app);
    let (admitted, host) = database
        .transact(move |savepoint| {
            let admitted = attempt.run(savepoint, &shared, &host, receipt)?;
            Ok::<_, TransactionError>((admitted, host))
        })
        .await?;
    tracing::info!(agent = %admitted.agent_id, %source, new = admitted.is_new, "readmitted");
    let status = if admitted.is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let subject = Subject {
        iss,
        agent_id: admitted.agent_id,
        key: host.key,
        admitted_by: admitted.admitted_by.as_deref(),
        default_tags: &admitted.default_tags,
        default_role: admitted.default_role.as_deref(),
        facts: &host.facts,
    };
    let receipt = app.receipt(subject, admitted.issued_at)?;
    let answer = Enrolled {
        agent_id: admitted.agent_id,
        agent_token,
        tags: merge_tags(&admitted.default_tags, &host.tags),
        role: merge_role(admitted.default_role.as_deref(), host.role.as_deref()),
        default_tags: admitted.default_tags,
        default_role: admitted.default_role,
        heartbeat_interval_secs: app.heartbeat_interval_secs,
        receipt,
    };
    Ok((status, Json(answer)))
}

/// An attempt to come back.
struct Attempt {
    body_sha256: [u8; 32],
    agent_token: TokenHash,
    source: IpAddr,
    now: Millis,
    steady: Millis,
}

/// The result of an attempt.
struct Readmitted {
    agent_id: Uuid,
    is_new: bool,
    admitted_by: Option<String>,
    default_tags: Vec<String>,
    default_role: Option<String>,
    issued_at: Option<Millis>,
}

/// The row of an agent that the database has.
struct Known {
    key: Option<PublicKey>,
    admitted_by: Option<String>,
    default_tags: Vec<String>,
    default_role: Option<String>,
}

impl Attempt {
    /// Returns the receipt if this hub has signed it for the key that has signed the body, and both are
    /// valid now. Nothing here needs the database, so nothing is stored for a stranger.
    fn verify(
        &self,
        app: &App,
        headers: &HeaderMap,
        host: &Host,
        text: &str,
        at: Millis,
    ) -> Option<Receipt> {
        let receipt = Receipt::parse(text, app.receipt_keys.as_deref()?)?;
        let is_valid = at.saturating_sub(self.now).saturating_abs() <= TOLERANCE
            && receipt.tenant == TENANT
            && receipt.key == key_hash(host.key)
            && self.now < receipt.expires_at()
            && app.origins.contains(&receipt.iss)
            && app
                .origins
                .iter()
                .any(|origin| self.is_signed(headers, host.key, &origin.to_string()));
        is_valid.then_some(receipt)
    }

    /// Returns whether the key has signed this body for a hub of this origin.
    fn is_signed(&self, headers: &HeaderMap, key: PublicKey, origin: &str) -> bool {
        let message = [
            b"monsys-readmit-v1\0",
            origin.as_bytes(),
            b"\0",
            &self.body_sha256,
        ]
        .concat();
        verify_message(headers, &message, key) == SignatureCheck::Valid
    }

    /// Runs the attempt in one savepoint. What is written before a refusal stays: the hash of the body,
    /// so that a body which was refused cannot be sent again, and anomalies.
    fn run(
        &self,
        savepoint: &Savepoint<'_>,
        app: &App,
        host: &Host,
        receipt: Receipt,
    ) -> Result<Readmitted, TransactionError> {
        let visitor = Visitor {
            agent_id: receipt.agent_id,
            issued_at: receipt.issued_at(),
            source: self.source,
            steady: self.steady,
        };
        let passes = self.is_first(savepoint)?
            && visitor.may_enter(savepoint)?
            && !is_deleted(savepoint, receipt.agent_id)?
            && !is_key_refused(savepoint, host.key)?
            && !is_below_floor(savepoint, receipt.agent_id, receipt.issued_at())?;
        if !passes {
            return Err(Refusal::unauthorised().into());
        }
        let known = known(savepoint, receipt.agent_id)?;
        if let Some(mismatch) = mismatch(&receipt, host, known.as_ref()) {
            let context = CheckContext {
                app,
                agent_id: receipt.agent_id,
                source: self.source,
                now: self.now,
                steady: self.steady,
            };
            context.record(savepoint, Anomaly::ReadmissionMismatch, mismatch)?;
            return Err(Refusal::unauthorised().into());
        }
        if has_another_id(savepoint, host.key, receipt.agent_id)? || !visitor.enter(savepoint)? {
            return Err(Refusal::unauthorised().into());
        }
        let agent_id = receipt.agent_id;
        let is_new = known.is_none();
        let pinned_at = self.now.max(receipt.issued_at());
        // The row of a known agent is newer than its receipt.
        let known = known.unwrap_or(Known {
            key: None,
            admitted_by: receipt.admitted_by,
            default_tags: receipt.tags,
            default_role: receipt.role,
        });
        self.store(savepoint, agent_id, host, &known, pinned_at)?;
        agents::record_call(savepoint, agent_id, self.source, self.now, self.steady)?;
        Ok(Readmitted {
            agent_id,
            is_new,
            admitted_by: known.admitted_by,
            default_tags: known.default_tags,
            default_role: known.default_role,
            issued_at: receipt::issue(savepoint, agent_id, self.now)?,
        })
    }

    /// Returns whether this body comes for the first time. The hub remembers each body as long as its
    /// `at` could be valid, by the steady clock, as for heartbeats.
    fn is_first(&self, savepoint: &Savepoint<'_>) -> rusqlite::Result<bool> {
        savepoint
            .prepare_cached("DELETE FROM readmissions WHERE received_at < ?1")?
            .execute([self.steady.saturating_sub(2 * TOLERANCE)])?;
        let added = savepoint
            .prepare_cached(
                "INSERT INTO readmissions (body_sha256, tenant, received_at) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO NOTHING",
            )?
            .execute(params![self.body_sha256, TENANT, self.steady])?;
        Ok(added > 0)
    }

    /// Inserts the agent under its own id, or gives a known one a fresh token.
    fn store(
        &self,
        savepoint: &Savepoint<'_>,
        agent_id: Uuid,
        host: &Host,
        known: &Known,
        pinned_at: Millis,
    ) -> rusqlite::Result<()> {
        savepoint
            .prepare_cached(
                "INSERT INTO agents (id, tenant, token_sha256, signing_pubkey, key_pinned_at,
                                     readmitted_at, admitted_by, default_tags, default_role, tags,
                                     role, agent_version, facts, created_at, last_seen_at)
                 VALUES (:id, :tenant, :agent_token, :key, :pinned_at, :now, :admitted_by,
                         :default_tags, :default_role, :tags, :role, :version, :facts, :now, :now)
                     ON CONFLICT (id) DO UPDATE
                    SET token_sha256 = excluded.token_sha256,
                        key_pinned_at = iif(signing_pubkey IS NULL, excluded.key_pinned_at,
                                            key_pinned_at),
                        signing_pubkey = excluded.signing_pubkey,
                        readmitted_at = excluded.readmitted_at, tags = excluded.tags,
                        role = excluded.role, facts = excluded.facts,
                        agent_version = excluded.agent_version, last_seen_at = excluded.last_seen_at",
            )?
            .execute(named_params! {
                ":id": agent_id.to_string(),
                ":tenant": TENANT,
                ":agent_token": self.agent_token.as_bytes(),
                ":key": host.key.as_bytes(),
                ":pinned_at": pinned_at,
                ":now": self.now,
                ":admitted_by": known.admitted_by,
                ":default_tags": to_json(&known.default_tags)?,
                ":default_role": known.default_role,
                ":tags": to_json(&merge_tags(&known.default_tags, &host.tags))?,
                ":role": merge_role(known.default_role.as_deref(), host.role.as_deref()),
                ":version": host.agent_version,
                ":facts": to_json(&host.facts)?,
            })?;
        Ok(())
    }
}

fn known(savepoint: &Savepoint<'_>, agent_id: Uuid) -> rusqlite::Result<Option<Known>> {
    savepoint
        .prepare_cached("SELECT * FROM agents WHERE id = ?1")?
        .query_row([agent_id.to_string()], |row| {
            let key: Option<Vec<u8>> = row.get("signing_pubkey")?;
            Ok(Known {
                key: key.and_then(|key| PublicKey::from_bytes(&key)),
                admitted_by: row.get("admitted_by")?,
                default_tags: from_json(row, "default_tags")?,
                default_role: row.get("default_role")?,
            })
        })
        .optional()
}

/// Returns how a receipt that is valid contradicts the host that sends it.
fn mismatch(receipt: &Receipt, host: &Host, known: Option<&Known>) -> Option<&'static str> {
    if let (Some(before), Some(now)) = (&receipt.fingerprint, fingerprint(&host.facts))
        && before != now
    {
        return Some("the receipt is of a machine with another fingerprint");
    }
    let pinned = known.and_then(|known| known.key);
    pinned
        .is_some_and(|pinned| pinned != host.key)
        .then_some("another key is pinned to this agent")
}

/// Returns whether the key is pinned to an agent of another id.
fn has_another_id(
    savepoint: &Savepoint<'_>,
    key: PublicKey,
    agent_id: Uuid,
) -> rusqlite::Result<bool> {
    savepoint
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM agents WHERE signing_pubkey = ?1 AND id <> ?2)",
        )?
        .query_row(params![key.as_bytes(), agent_id.to_string()], |row| {
            row.get(0)
        })
}
