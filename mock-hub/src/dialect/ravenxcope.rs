//! RavenXcope: a one-time install token in the body for a durable sensor token.
//!
//! The operator creates an install token for a sensor, which exists from then on. A host that enrols
//! with the install token gets the sensor token; the same SQL statement deletes the install token. A
//! new install token replaces the one before, and enrolling with it replaces the sensor token. So a
//! sensor has at most one of each, whatever message is lost. Of both, only the SHA-256 is stored.

mod operator;
mod sensor_calls;
mod sensor_id;
mod wire;

use crate::faults::FaultPoint;
use crate::state::MockState;
use axum::Router;
use axum::http::Method;
use axum::routing::{get, post};

/// SQL that creates the tables unless they exist.
pub(super) const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS ravenxcope_sensors (
        id                 TEXT PRIMARY KEY,
        install_sha256     BLOB UNIQUE,
        install_expires_at INTEGER,
        token_sha256       BLOB UNIQUE,
        enrolments         INTEGER NOT NULL DEFAULT 0,
        enrolment          TEXT,
        enrolled_at        INTEGER,
        heartbeats         INTEGER NOT NULL DEFAULT 0,
        heartbeat          TEXT,
        heartbeat_at       INTEGER,
        created_at         INTEGER NOT NULL,
        revoked_at         INTEGER
    ) STRICT;";

/// The calls that faults can happen to.
pub(super) const FAULT_POINTS: &[FaultPoint] = &[
    FaultPoint::new(
        "ravenxcope-enroll",
        Method::POST,
        "/api/sensors/{id}/agent/enroll",
    ),
    FaultPoint::new(
        "ravenxcope-heartbeat",
        Method::POST,
        "/api/sensors/{id}/agent/heartbeat",
    ),
];

/// Returns the routes.
pub(super) fn routes() -> Router<MockState> {
    Router::new()
        .route("/api/sensors/{id}/agent/enroll", post(sensor_calls::enroll))
        .route(
            "/api/sensors/{id}/agent/heartbeat",
            post(sensor_calls::heartbeat),
        )
        .route("/api/sensors", get(operator::list))
        .route("/api/sensors/{id}", get(operator::show))
        .route(
            "/api/sensors/{id}/install-token",
            post(operator::create_token),
        )
        .route("/api/sensors/{id}/revoke", post(operator::revoke))
}
