//! LyftData: an HMAC of a shared secret and a nonce in, a worker's id and an API key out.
//!
//! The mock hub follows LyftData's documentation: the two calls of auto enrolment, the enrolment,
//! the key that all workers share, the Community Edition. The documentation names no fields of the
//! enrolment, so those are the contract's. These rules are ours: a worker may request an id
//! (`worker`), and only ids are unique; a nonce counts once; an operator removes a worker with DELETE, and chooses
//! the edition.

mod enroll;
mod operator;
mod text;

use crate::faults::FaultPoint;
use crate::state::MockState;
use axum::Router;
use axum::http::Method;
use axum::routing::{delete, get, post};

/// SQL that creates the tables unless they exist. Earlier releases had the workers in a table with unique names,
/// which SQLite cannot change: its rows move.
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS lyftdata_enrolment (
    only      INTEGER PRIMARY KEY CHECK (only = 1),
    enabled   INTEGER NOT NULL DEFAULT 0,
    secret    TEXT,
    api_key   TEXT,
    community INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT OR IGNORE INTO lyftdata_enrolment (only) VALUES (1);
CREATE TABLE IF NOT EXISTS lyftdata_workers_2 (
    worker      TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    api_key     TEXT NOT NULL,
    enrolled_at INTEGER NOT NULL
) STRICT;
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS lyftdata_workers (worker TEXT, name TEXT, api_key TEXT, enrolled_at INTEGER) STRICT;
INSERT INTO lyftdata_workers_2 SELECT worker, name, api_key, enrolled_at FROM lyftdata_workers;
DROP TABLE lyftdata_workers;
COMMIT;
CREATE TABLE IF NOT EXISTS lyftdata_nonces (
    nonce   TEXT PRIMARY KEY,
    used_at INTEGER NOT NULL
) STRICT;
";

/// The calls that faults can happen to.
pub(super) const FAULT_POINTS: &[FaultPoint] = &[FaultPoint::new(
    "lyftdata-enroll",
    Method::POST,
    "/api/workers/enroll",
)];

/// Returns the routes.
pub(super) fn routes() -> Router<MockState> {
    Router::new()
        .route("/api/workers/enroll", post(enroll::enroll))
        .route(
            "/api/workers/auto-enrollment",
            get(operator::show).post(operator::configure),
        )
        .route("/api/workers/edition", post(operator::set_edition))
        .route("/api/workers", get(operator::list))
        .route("/api/workers/{worker}", delete(operator::remove))
}
