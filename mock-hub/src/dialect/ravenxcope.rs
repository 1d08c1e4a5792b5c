//! `RavenXcope`: a sensor's one-time install token, in the body, for a durable sensor token.
//!
//! The operator mints an install token for a sensor, which exists from then on. Whoever enrols with
//! it gets the sensor token; the install token is gone with the very same statement. A new install
//! token replaces the one before; enrolling with it replaces the sensor token. So a sensor has one
//! of each at most, whatever is lost on the way. Of both, the hub keeps the SHA-256 alone.

use super::Faulty;
use crate::App;
use crate::clock::{Millis, rfc3339};
use crate::database::{Stop, from_json, to_json};
use crate::faults::Route;
use crate::refusal::Refusal;
use crate::request::{Admin, Bearer, JsonBody, Wire};
use crate::secret::{TokenHash, fresh_secret};
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rusqlite::{OptionalExtension as _, Row, Savepoint, named_params, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

pub(super) const SCHEMA: &str = "
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

/// How long an install token is good for.
const INSTALL_TOKEN_LIFE: Millis = 24 * 60 * 60 * 1000;
/// More characters than any honest text of a host has.
const TEXT: RangeInclusive<usize> = 1..=1024;
const MAX_INTERFACES: usize = 4096;

pub(super) fn routes(faulty: Faulty<'_>) -> Router<Arc<App>> {
    Router::new()
        .route(
            "/api/sensors/{id}/agent/enroll",
            faulty(Route::RavenxcopeEnroll, post(enroll)),
        )
        .route(
            "/api/sensors/{id}/agent/heartbeat",
            faulty(Route::RavenxcopeHeartbeat, post(heartbeat)),
        )
        .route("/api/sensors", get(list))
        .route("/api/sensors/{id}", get(look))
        .route("/api/sensors/{id}/install-token", post(mint))
        .route("/api/sensors/{id}/revoke", post(revoke))
}

/// The body of an enrolment on the wire. What is not skipped, the operator can look at later.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Enrolment {
    #[serde(skip_serializing)]
    install_token: String,
    hostname: String,
    os_info: String,
    architecture: String,
    agent_version: String,
    sensor_ip: IpAddr,
    sensor_port: u16,
    sudo_user: String,
    interfaces: Vec<Interface>,
}

/// One network interface, in an enrolment or a heartbeat. All its fields are always there.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the protocol has five")]
struct Interface {
    name: String,
    is_management: bool,
    is_loopback: bool,
    is_virtual: bool,
    is_wireless: bool,
    is_up: bool,
    bytes_sent: u64,
    bytes_recv: u64,
}

/// The body of a heartbeat on the wire.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Heartbeat {
    cpu_usage: f64,
    memory_used: u64,
    memory_total: u64,
    memory_percent: f64,
    interfaces: Vec<Interface>,
}

impl Wire for Enrolment {
    type Checked = Self;

    fn check(self) -> Result<Self, String> {
        for (field, text) in [
            ("installToken", &self.install_token),
            ("hostname", &self.hostname),
            ("osInfo", &self.os_info),
            ("architecture", &self.architecture),
            ("agentVersion", &self.agent_version),
            ("sudoUser", &self.sudo_user),
        ] {
            check_text(field, text)?;
        }
        if self.sensor_port == 0 {
            return Err("sensorPort: must be 1 to 65535".to_owned());
        }
        check_interfaces(&self.interfaces)?;
        Ok(self)
    }
}

impl Wire for Heartbeat {
    type Checked = Self;

    fn check(self) -> Result<Self, String> {
        for (field, percent) in [
            ("cpuUsage", self.cpu_usage),
            ("memoryPercent", self.memory_percent),
        ] {
            if !(0.0..=100.0).contains(&percent) {
                return Err(format!("{field}: must be 0 to 100"));
            }
        }
        if self.memory_used > self.memory_total {
            return Err("memoryUsed: more than memoryTotal".to_owned());
        }
        check_interfaces(&self.interfaces)?;
        Ok(self)
    }
}

fn check_interfaces(interfaces: &[Interface]) -> Result<(), String> {
    if interfaces.len() > MAX_INTERFACES {
        return Err(format!("interfaces: at most {MAX_INTERFACES}"));
    }
    interfaces
        .iter()
        .try_for_each(|interface| check_text("interfaces.name", &interface.name))
}

fn check_text(field: &str, text: &str) -> Result<(), String> {
    if TEXT.contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!(
        "{field}: must be {} to {} characters with no control character",
        TEXT.start(),
        TEXT.end()
    ))
}

/// What a sensor is told when it has enrolled.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Enrolled {
    sensor_id: String,
    sensor_token: String,
    backend_url: String,
    heartbeat_interval_seconds: u32,
}

/// Every answer to a sensor: `{"success": …}` with data, a message, or neither.
#[derive(Serialize)]
struct Answer<T> {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl<T> Answer<T> {
    fn yes(data: Option<T>) -> Json<Self> {
        Json(Self {
            success: true,
            data,
            message: None,
        })
    }
}

/// A no, in this dialect's own words.
struct Failure(Refusal);

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = Answer::<()> {
            success: false,
            data: None,
            message: Some(self.0.message().to_owned()),
        };
        (self.0.status(), Json(body)).into_response()
    }
}

/// `POST /api/sensors/{id}/agent/enroll`
async fn enroll(
    State(app): State<Arc<App>>,
    id: Result<SensorId, Refusal>,
    body: Result<JsonBody<Enrolment>, Refusal>,
) -> Result<Json<Answer<Enrolled>>, Failure> {
    let (SensorId(id), body) = (id?, body?.value);
    let sensor_token = fresh_secret().map_err(|_| Refusal::internal())?;
    let (hash, now) = (TokenHash::of(&sensor_token), app.clock.now());
    let sensor_id = id.clone();
    app.database
        .transact(move |savepoint| -> Result<(), Stop> {
            // The one statement that decides: of all that come with one token, one finds it. Another
            // sensor's token, an old, a used and an unknown one are all the same to it.
            let admitted = savepoint
                .prepare_cached(
                    "UPDATE ravenxcope_sensors
                        SET install_sha256 = NULL, install_expires_at = NULL, token_sha256 = :hash,
                            enrolments = enrolments + 1, enrolment = :enrolment, enrolled_at = :now
                      WHERE id = :id AND install_sha256 = :install AND install_expires_at > :now
                        AND revoked_at IS NULL",
                )?
                .execute(named_params! {
                    ":hash": hash.as_bytes(),
                    ":enrolment": to_json(&body)?,
                    ":now": now,
                    ":id": id,
                    ":install": TokenHash::of(&body.install_token).as_bytes(),
                })?;
            if admitted == 0 {
                return Err(Refusal::unauthorised().into());
            }
            Ok(())
        })
        .await?;
    Ok(Answer::yes(Some(Enrolled {
        sensor_id,
        sensor_token,
        backend_url: app.url.clone(),
        heartbeat_interval_seconds: app.heartbeat_interval_secs,
    })))
}

/// `POST /api/sensors/{id}/agent/heartbeat`
async fn heartbeat(
    State(app): State<Arc<App>>,
    id: Result<SensorId, Refusal>,
    bearer: Bearer,
    body: Result<JsonBody<Heartbeat>, Refusal>,
) -> Result<Json<Answer<()>>, Failure> {
    let (SensorId(id), token, body) = (id?, bearer.token()?, body?.value);
    let now = app.clock.now();
    app.database
        .transact(move |savepoint| -> Result<(), Stop> {
            let known = savepoint
                .prepare_cached(
                    "UPDATE ravenxcope_sensors
                        SET heartbeats = heartbeats + 1, heartbeat = ?3, heartbeat_at = ?4
                      WHERE id = ?1 AND token_sha256 = ?2",
                )?
                .execute(params![id, token.as_bytes(), to_json(&body)?, now])?;
            if known == 0 {
                return Err(Refusal::unauthorised().into());
            }
            Ok(())
        })
        .await?;
    Ok(Answer::yes(None))
}

/// The `{id}` of the path: 1 to 128 letters, digits, `.`, `_` and `-`. Anything else is no sensor.
struct SensorId(String);

impl<S: Send + Sync> FromRequestParts<S> for SensorId {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        Path::<String>::from_request_parts(parts, state)
            .await
            .ok()
            .map(|Path(id)| id)
            .filter(|id| (1..=128).contains(&id.len()) && id.bytes().all(is_allowed))
            .map(Self)
            .ok_or_else(no_sensor)
    }
}

/// A sensor, as the operator sees it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sensor {
    #[serde(rename = "sensorId")]
    id: String,
    status: &'static str,
    /// Until when there is an install token that nobody has used.
    install_token_expires_at: Option<String>,
    /// How often a sensor has enrolled under this id.
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

fn find(savepoint: &Savepoint<'_>, id: &str) -> Result<Sensor, Stop> {
    let sensor = savepoint
        .prepare_cached("SELECT * FROM ravenxcope_sensors WHERE id = ?1")?
        .query_row([id], Sensor::of)
        .optional()?;
    Ok(sensor.ok_or_else(no_sensor)?)
}

/// An install token just minted: the one time that it is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Minted {
    install_token: String,
    #[serde(flatten)]
    sensor: Sensor,
}

/// `POST /api/sensors/{id}/install-token`: makes the sensor if there is none, and lets one that was
/// revoked in again. The sensor token that it has works until the new install token is used.
async fn mint(
    _: Admin,
    State(app): State<Arc<App>>,
    SensorId(id): SensorId,
) -> Result<(StatusCode, Json<Minted>), Refusal> {
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
                .execute(params![id, hash.as_bytes(), now.saturating_add(INSTALL_TOKEN_LIFE), now])?;
            find(savepoint, &id)
        })
        .await?;
    let minted = Minted {
        install_token,
        sensor,
    };
    Ok((StatusCode::CREATED, Json(minted)))
}

/// `POST /api/sensors/{id}/revoke`: both of its tokens are dead at once.
async fn revoke(
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

/// `GET /api/sensors/{id}`
async fn look(
    _: Admin,
    State(app): State<Arc<App>>,
    SensorId(id): SensorId,
) -> Result<Json<Sensor>, Refusal> {
    let found = app.database.transact(move |savepoint| find(savepoint, &id));
    Ok(Json(found.await?))
}

/// The operator's list.
#[derive(Serialize)]
struct Sensors {
    sensors: Vec<Sensor>,
}

/// `GET /api/sensors`
async fn list(_: Admin, State(app): State<Arc<App>>) -> Result<Json<Sensors>, Refusal> {
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

fn no_sensor() -> Refusal {
    Refusal::not_found("sensor")
}
