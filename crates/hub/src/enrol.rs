//! `POST /api/v1/agents/enrol`: exchanges a shared secret for a credential of the host's own.

use crate::agents;
use crate::app::App;
use crate::body::RawBody;
use crate::clock::Millis;
use crate::database::{TransactionError, from_json, to_json};
use crate::deleted_agents::is_key_refused;
use crate::host::{Host, Registration};
use crate::labels::{merge_role, merge_tags};
use crate::receipt::{self, Subject, TENANT};
use crate::refusal::Refusal;
use crate::request::{Bearer, Source};
use crate::secret::{TokenHash, TokenKind, fresh_token};
use crate::signature::{SignatureCheck, verify};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use rusqlite::{OptionalExtension as _, Savepoint, named_params};
use serde::Serialize;
use std::net::IpAddr;
use std::sync::Arc;
use uuid::Uuid;

/// The answer on the wire.
#[derive(Serialize)]
pub(crate) struct Enrolled {
    pub(crate) agent_id: Uuid,
    pub(crate) agent_token: String,
    pub(crate) default_tags: Vec<String>,
    pub(crate) default_role: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) role: Option<String>,
    pub(crate) heartbeat_interval_secs: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) receipt: Option<String>,
}

/// Admits a host, or recognises it by its signing key.
pub(crate) async fn enrol(
    State(app): State<Arc<App>>,
    Source(source): Source,
    bearer: Bearer,
    headers: HeaderMap,
    body: RawBody,
) -> Result<(StatusCode, Json<Enrolled>), Refusal> {
    // The signing key is in the body, so here alone the body is parsed before its signature is
    // checked. Nothing else happens before the check; the body is 1 MiB at most.
    let host = body.json::<Registration>()?;
    let token = bearer.token()?;
    // Without proof that the host holds the key, anyone with the public key could take the agent.
    if verify(&headers, &body.bytes, host.key) != SignatureCheck::Valid {
        return Err(Refusal::unauthorised());
    }
    let agent_token = fresh_token(TokenKind::Agent).map_err(|_| Refusal::internal())?;
    let attempt = Attempt {
        token,
        source,
        agent_token: TokenHash::of(&agent_token),
        now: app.clock.now(),
        steady: app.clock.steady(),
    };
    let (admitted, host) = app
        .database
        .transact(move |savepoint| {
            let admitted = attempt.run(savepoint, &host)?;
            Ok::<_, TransactionError>((admitted, host))
        })
        .await?;
    let subject = Subject {
        iss: app.origins.selected_by(&headers).to_string(),
        agent_id: admitted.agent_id,
        key: host.key,
        admitted_by: Some(&admitted.token.id),
        default_tags: &admitted.token.default_tags,
        default_role: admitted.token.default_role.as_deref(),
        facts: &host.facts,
    };
    let receipt = app.receipt(subject, admitted.issued_at)?;
    let status = if admitted.is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let answer = Enrolled {
        agent_id: admitted.agent_id,
        agent_token,
        default_tags: admitted.token.default_tags,
        default_role: admitted.token.default_role,
        tags: admitted.tags,
        role: admitted.role,
        heartbeat_interval_secs: app.heartbeat_interval_secs,
        receipt,
    };
    Ok((status, Json(answer)))
}

/// An attempt to enrol.
struct Attempt {
    token: TokenHash,
    source: IpAddr,
    agent_token: TokenHash,
    now: Millis,
    /// The same moment by the steady clock.
    steady: Millis,
}

/// The result of an attempt.
struct Admitted {
    agent_id: Uuid,
    is_new: bool,
    token: TokenRow,
    tags: Vec<String>,
    role: Option<String>,
    issued_at: Option<Millis>,
}

/// The claimed token.
struct TokenRow {
    id: String,
    default_tags: Vec<String>,
    default_role: Option<String>,
}

impl Attempt {
    /// Runs the attempt in one savepoint.
    fn run(&self, savepoint: &Savepoint<'_>, host: &Host) -> Result<Admitted, TransactionError> {
        if is_key_refused(savepoint, host.key)? {
            return Err(Refusal::unauthorised().into());
        }
        let token = self
            .claim(savepoint, host)?
            .ok_or_else(Refusal::unauthorised)?;
        let known: Option<Uuid> = savepoint
            .prepare_cached("SELECT id FROM agents WHERE signing_pubkey = ?1")?
            .query_row([host.key.as_bytes()], |row| row.get::<_, String>(0))
            .optional()?
            .and_then(|id| id.parse().ok());
        let mut admitted = Admitted {
            agent_id: known.unwrap_or_else(Uuid::new_v4),
            is_new: known.is_none(),
            tags: merge_tags(&token.default_tags, &host.tags),
            role: merge_role(token.default_role.as_deref(), host.role.as_deref()),
            token,
            issued_at: None,
        };
        self.store_agent(savepoint, host, &admitted)?;
        agents::record_call(
            savepoint,
            admitted.agent_id,
            self.source,
            self.now,
            self.steady,
        )?;
        self.store_use(savepoint, &admitted)?;
        admitted.issued_at = receipt::issue(savepoint, admitted.agent_id, self.now)?;
        Ok(admitted)
    }

    /// Claims a use of the token in one statement. Unknown, expired, revoked, used up and the wrong
    /// address all give the same: no row. A host that this token has admitted before (its key is on
    /// an agent in the token's audit) takes no use, and may come after the last one.
    fn claim(&self, savepoint: &Savepoint<'_>, host: &Host) -> rusqlite::Result<Option<TokenRow>> {
        savepoint
            .prepare_cached(
                "UPDATE enrolment_tokens
                    SET uses = uses + (NOT EXISTS (
                        SELECT 1 FROM enrolment_uses u JOIN agents a ON a.id = u.agent_id
                         WHERE u.token_id = enrolment_tokens.id AND a.signing_pubkey = :key))
                  WHERE token_sha256 = :token
                    AND revoked_at IS NULL
                    AND expires_at > :now
                    AND ip_in_cidrs(:source, allowed_cidrs)
                    AND (uses < max_uses OR EXISTS (
                        SELECT 1 FROM enrolment_uses u JOIN agents a ON a.id = u.agent_id
                         WHERE u.token_id = enrolment_tokens.id AND a.signing_pubkey = :key))
              RETURNING id, default_tags, default_role",
            )?
            .query_row(
                named_params! {
                    ":key": host.key.as_bytes(),
                    ":token": self.token.as_bytes(),
                    ":now": self.now,
                    ":source": self.source.to_string(),
                },
                |row| {
                    Ok(TokenRow {
                        id: row.get("id")?,
                        default_tags: from_json(row, "default_tags")?,
                        default_role: row.get("default_role")?,
                    })
                },
            )
            .optional()
    }

    /// Inserts the agent, or updates a known one and replaces its credential.
    fn store_agent(
        &self,
        savepoint: &Savepoint<'_>,
        host: &Host,
        admitted: &Admitted,
    ) -> rusqlite::Result<()> {
        savepoint
            .prepare_cached(
                "INSERT INTO agents (id, tenant, token_sha256, signing_pubkey, key_pinned_at,
                                     admitted_by, default_tags, default_role, tags, role,
                                     agent_version, facts, created_at, last_seen_at)
                 VALUES (:id, :tenant, :agent_token, :key, :now, :token, :default_tags, :default_role, :tags,
                         :role, :version, :facts, :now, :now)
                     ON CONFLICT (id) DO UPDATE
                    SET token_sha256 = excluded.token_sha256, admitted_by = excluded.admitted_by,
                        default_tags = excluded.default_tags, default_role = excluded.default_role,
                        tags = excluded.tags, role = excluded.role, facts = excluded.facts,
                        agent_version = excluded.agent_version, last_seen_at = excluded.last_seen_at",
            )?
            .execute(named_params! {
                ":id": admitted.agent_id.to_string(),
                ":tenant": TENANT,
                ":agent_token": self.agent_token.as_bytes(),
                ":key": host.key.as_bytes(),
                ":token": admitted.token.id,
                ":default_tags": to_json(&admitted.token.default_tags)?,
                ":default_role": admitted.token.default_role,
                ":tags": to_json(&admitted.tags)?,
                ":role": admitted.role,
                ":version": host.agent_version,
                ":facts": to_json(&host.facts)?,
                ":now": self.now,
            })?;
        Ok(())
    }

    /// Adds a row to the audit. Token and agent are unique, so a repeated enrolment adds none: it
    /// becomes the last use of its row.
    fn store_use(&self, savepoint: &Savepoint<'_>, admitted: &Admitted) -> rusqlite::Result<()> {
        savepoint
            .prepare_cached(
                "INSERT INTO enrolment_uses (token_id, agent_id, source_ip, used_at, last_source_ip,
                                             last_used_at)
                 VALUES (:token, :agent, :source, :now, :source, :now)
                     ON CONFLICT (token_id, agent_id) DO UPDATE
                    SET last_source_ip = excluded.last_source_ip,
                        last_used_at = excluded.last_used_at",
            )?
            .execute(named_params! {
                ":token": admitted.token.id,
                ":agent": admitted.agent_id.to_string(),
                ":source": self.source.to_string(),
                ":now": self.now,
            })?;
        Ok(())
    }
}
