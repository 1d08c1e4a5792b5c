//! The calls of sensors: enrolment and heartbeat.

use super::sensor_id::SensorId;
use super::wire::{Enrolment, Heartbeat};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hub::App;
use hub::body::JsonBody;
use hub::database::{TransactionError, to_json};
use hub::refusal::Refusal;
use hub::request::Bearer;
use hub::secret::{TokenHash, fresh_secret};
use rusqlite::{named_params, params};
use serde::Serialize;
use std::sync::Arc;

/// The response to an enrolment.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Enrolled {
    sensor_id: String,
    sensor_token: String,
    backend_url: String,
    heartbeat_interval_seconds: u32,
}

/// Every response to a sensor: `{"success": …}` with data, a message, or neither.
#[derive(Serialize)]
pub(super) struct Answer<T> {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl<T> Answer<T> {
    fn accepted(data: Option<T>) -> Json<Self> {
        Json(Self {
            success: true,
            data,
            message: None,
        })
    }
}

/// A refusal in the form of this dialect.
pub(super) struct Failure(Refusal);

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

/// `POST /api/sensors/{id}/agent/enroll`: exchanges an install token for a sensor token.
pub(super) async fn enroll(
    State(app): State<Arc<App>>,
    id: Result<SensorId, Refusal>,
    body: Result<JsonBody<Enrolment>, Refusal>,
) -> Result<Json<Answer<Enrolled>>, Failure> {
    let (SensorId(id), body) = (id?, body?.value);
    let sensor_token = fresh_secret().map_err(|_| Refusal::internal())?;
    let (hash, now) = (TokenHash::of(&sensor_token), app.clock.now());
    let sensor_id = id.clone();
    app.database
        .transact(move |savepoint| -> Result<(), TransactionError> {
            // One statement decides: of all calls with one token, one finds the token. A token of another
            // sensor, an old, a used and an unknown one all give the same: no row.
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
    Ok(Answer::accepted(Some(Enrolled {
        sensor_id,
        sensor_token,
        backend_url: app.url.clone(),
        heartbeat_interval_seconds: app.heartbeat_interval_secs,
    })))
}

/// `POST /api/sensors/{id}/agent/heartbeat`: stores a heartbeat.
pub(super) async fn heartbeat(
    State(app): State<Arc<App>>,
    id: Result<SensorId, Refusal>,
    bearer: Bearer,
    body: Result<JsonBody<Heartbeat>, Refusal>,
) -> Result<Json<Answer<()>>, Failure> {
    let (SensorId(id), token, body) = (id?, bearer.token()?, body?.value);
    let now = app.clock.now();
    app.database
        .transact(move |savepoint| -> Result<(), TransactionError> {
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
    Ok(Answer::accepted(None))
}
