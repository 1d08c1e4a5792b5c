//! The operator's calls about sensors.

use super::sensor_id::{SensorId, no_sensor};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use hub::App;
use hub::clock::{Millis, rfc3339};
use hub::database::{TransactionError, from_json};
use hub::refusal::Refusal;
use hub::request::Admin;
use hub::secret::{TokenHash, fresh_secret};
use rusqlite::{OptionalExtension as _, Row, Savepoint, params};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

/// The lifetime of an install token.
const INSTALL_TOKEN_LIFETIME: Millis = 24 * 60 * 60 * 1000;
/// A sensor, as shown to the operator.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sensor {
    #[serde(rename = "sensorId")]
    id: String,
    status: &'static str,
    /// The end of the install token that is not used yet, if there is one.
    install_token_expires_at: Option<String>,
    /// The number of enrolments under this id.
    enrolments: i64,
    enrolment: Option<Value>,
    enrolled_at: Option<String>,
    heartbeats: i64,
    heartbeat: Option<Value>,
    heartbeat_at: Option<String>,
    created_at: String,
    revoked_at: Option<String>,
}

impl Sensor {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let json = |column| -> rusqlite::Result<Option<Value>> {
            match row.get_ref(column)? {
                rusqlite::types::ValueRef::Null => Ok(None),
                _ => from_json(row, column),
            }
        };
        let time = |column| {
            row.get::<_, Option<Millis>>(column)
                .map(|at| at.map(rfc3339))
        };
        let is_enrolled = row.get::<_, Option<Vec<u8>>>("token_sha256")?.is_some();
        let revoked_at = time("revoked_at")?;
        Ok(Self {
            id: row.get("id")?,
            status: match (&revoked_at, is_enrolled) {
                (Some(_), _) => "revoked",
                (None, true) => "enrolled",
                (None, false) => "awaited",
            },
            install_token_expires_at: time("install_expires_at")?,
            enrolments: row.get("enrolments")?,
            enrolment: json("enrolment")?,
            enrolled_at: time("enrolled_at")?,
            heartbeats: row.get("heartbeats")?,
            heartbeat: json("heartbeat")?,
            heartbeat_at: time("heartbeat_at")?,
            created_at: rfc3339(row.get("created_at")?),
            revoked_at,
        })
    }
}

fn find(savepoint: &Savepoint<'_>, id: &str) -> Result<Sensor, TransactionError> {
    let sensor = savepoint
        .prepare_cached("SELECT * FROM ravenxcope_sensors WHERE id = ?1")?
        .query_row([id], Sensor::of)
        .optional()?;
    Ok(sensor.ok_or_else(no_sensor)?)
}

/// A new install token, which the operator sees this one time.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewToken {
    install_token: String,
    #[serde(flatten)]
    sensor: Sensor,
}

/// `POST /api/sensors/{id}/install-token`: creates the sensor if it does not exist, and readmits a
/// revoked one. Its sensor token works until the new install token is used.
pub(super) async fn create_token(
    _: Admin,
    State(app): State<Arc<App>>,
    SensorId(id): SensorId,
) -> Result<(StatusCode, Json<NewToken>), Refusal> {
    let install_token = fresh_secret().map_err(|_| Refusal::internal())?;
    let (hash, now) = (TokenHash::of(&install_token), app.clock.now());
    let sensor = app
        .database
        .transact(move |savepoint| {
            savepoint
                .prepare_cached(
                    "INSERT INTO ravenxcope_sensors (id, install_sha256, install_expires_at, created_at)
                     VALUES (?1, ?2, ?3, ?4)
                         ON CONFLICT (id) DO UPDATE
                        SET install_sha256 = excluded.install_sha256, revoked_at = NULL,
                            install_expires_at = excluded.install_expires_at",
                )?
                .execute(params![id, hash.as_bytes(), now.saturating_add(INSTALL_TOKEN_LIFETIME), now])?;
            find(savepoint, &id)
        })
        .await?;
    let new = NewToken {
        install_token,
        sensor,
    };
    Ok((StatusCode::CREATED, Json(new)))
}

/// `POST /api/sensors/{id}/revoke`: revokes both tokens of a sensor at once.
pub(super) async fn revoke(
    _: Admin,
    State(app): State<Arc<App>>,
    SensorId(id): SensorId,
) -> Result<Json<Sensor>, Refusal> {
    let now = app.clock.now();
    let revoked = app.database.transact(move |savepoint| {
        savepoint
            .prepare_cached(
                "UPDATE ravenxcope_sensors
                    SET install_sha256 = NULL, install_expires_at = NULL, token_sha256 = NULL,
                        revoked_at = coalesce(revoked_at, ?2)
                  WHERE id = ?1",
            )?
            .execute(params![id, now])?;
        find(savepoint, &id)
    });
    Ok(Json(revoked.await?))
}

/// `GET /api/sensors/{id}`: shows a sensor.
pub(super) async fn show(
    _: Admin,
    State(app): State<Arc<App>>,
    SensorId(id): SensorId,
) -> Result<Json<Sensor>, Refusal> {
    let found = app.database.transact(move |savepoint| find(savepoint, &id));
    Ok(Json(found.await?))
}

/// The operator's list.
#[derive(Serialize)]
pub(super) struct Sensors {
    sensors: Vec<Sensor>,
}

/// `GET /api/sensors`: lists the sensors.
pub(super) async fn list(_: Admin, State(app): State<Arc<App>>) -> Result<Json<Sensors>, Refusal> {
    let sensors = app
        .database
        .transact(|savepoint| {
            savepoint
                .prepare_cached("SELECT * FROM ravenxcope_sensors ORDER BY created_at, rowid")?
                .query_map([], Sensor::of)?
                .collect::<rusqlite::Result<_>>()
        })
        .await?;
    Ok(Json(Sensors { sensors }))
}
