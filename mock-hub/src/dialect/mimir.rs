//! Mimir: an enrollment secret in, a client certificate out.
//!
//! The mock hub follows Mimir's documentation: secrets, caps, the two refusals, revocation.
//! The documentation names neither addresses nor fields, so those are ours, and so are three rules:
//! the same public key with the same secret is the same agent and takes no second use; an agent
//! proves its identity, and counts as seen, by `GET /api/v1/agent/self`; it renews its certificate
//! by `POST /api/v1/agent/renew`, for the same key.

mod agents;
mod certificates;
mod enroll;
mod secrets;

use crate::faults::FaultPoint;
use crate::state::MockState;
use axum::Router;
use axum::http::Method;
use axum::routing::{delete, get, post};

/// SQL that creates the tables unless they exist.
pub(super) const TABLES: &str = "
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

/// The calls that faults can happen to.
pub(super) const FAULT_POINTS: &[FaultPoint] = &[
    FaultPoint::new("mimir-enroll", Method::POST, "/api/v1/enroll"),
    FaultPoint::within(enroll::CLAIM),
    FaultPoint::new("mimir-self", Method::GET, "/api/v1/agent/self"),
    FaultPoint::new("mimir-renew", Method::POST, "/api/v1/agent/renew"),
];

/// Returns the routes.
pub(super) fn routes() -> Router<MockState> {
    Router::new()
        .route("/api/v1/enroll", post(enroll::enroll))
        .route("/api/v1/agent/self", get(agents::myself))
        .route("/api/v1/agent/renew", post(agents::renew))
        .route(
            "/api/v1/mimir/enrollment-secrets",
            get(secrets::list).post(secrets::create),
        )
        .route(
            "/api/v1/mimir/enrollment-secrets/{id}/revoke",
            post(secrets::revoke),
        )
        .route("/api/v1/mimir/agents", get(agents::list))
        .route("/api/v1/mimir/agents/{id}", delete(agents::remove))
        .route("/api/v1/mimir/certificates", post(certificates::set_rules))
}
