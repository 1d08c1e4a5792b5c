//! The operator's calls about auto enrolment and workers.

use super::text::check_text;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use hub::App;
use hub::body::{JsonBody, Wire};
use hub::clock::rfc3339;
use hub::database::TransactionError;
use hub::refusal::Refusal;
use hub::request::Admin;
use rusqlite::{Savepoint, params};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The body of the operator's call. A field that is absent or null stays as it is.
#[derive(Deserialize)]
pub(super) struct Configuration {
    enabled: bool,
    enrollment_secret: Option<String>,
    enrollment_api_key: Option<String>,
}

impl Wire for Configuration {
    type Checked = Self;

    fn check(self) -> Result<Self, String> {
        if self.enabled && self.enrollment_secret.is_none() {
            return Err("enrollment_secret: must be present when enabled is true".to_owned());
        }
        for (field, text) in [
            ("enrollment_secret", &self.enrollment_secret),
            ("enrollment_api_key", &self.enrollment_api_key),
        ] {
            if let Some(text) = text {
                check_text(field, text)?;
            }
        }
        Ok(self)
    }
}

/// The stored configuration; secret and key are hidden.
#[derive(Serialize)]
pub(super) struct View {
    enabled: bool,
    enrollment_secret: Option<&'static str>,
    enrollment_api_key: Option<&'static str>,
}

/// `POST /api/workers/auto-enrollment`: configures auto enrolment.
pub(super) async fn configure(
    _: Admin,
    State(app): State<Arc<App>>,
    body: JsonBody<Configuration>,
) -> Result<Json<View>, Refusal> {
    let body = body.value;
    let view = app
        .database
        .transact(move |savepoint| -> Result<View, TransactionError> {
            savepoint
                .prepare_cached(
                    "UPDATE lyftdata_enrolment SET enabled = ?1, secret = coalesce(?2, secret),
                            api_key = coalesce(?3, api_key)",
                )?
                .execute(params![
                    body.enabled,
                    body.enrollment_secret,
                    body.enrollment_api_key
                ])?;
            Ok(stored(savepoint)?)
        })
        .await?;
    Ok(Json(view))
}

/// `GET /api/workers/auto-enrollment`: shows the configuration.
pub(super) async fn show(_: Admin, State(app): State<Arc<App>>) -> Result<Json<View>, Refusal> {
    let view = app
        .database
        .transact(|savepoint| -> Result<View, TransactionError> { Ok(stored(savepoint)?) })
        .await?;
    Ok(Json(view))
}

fn stored(savepoint: &Savepoint<'_>) -> rusqlite::Result<View> {
    let hidden = |is_there: bool| is_there.then_some("hidden");
    savepoint
        .prepare_cached(
            "SELECT enabled, secret IS NOT NULL, api_key IS NOT NULL FROM lyftdata_enrolment",
        )?
        .query_row([], |row| {
            Ok(View {
                enabled: row.get(0)?,
                enrollment_secret: hidden(row.get(1)?),
                enrollment_api_key: hidden(row.get(2)?),
            })
        })
}

/// The edition of the hub.
#[derive(Deserialize)]
pub(super) struct Edition {
    community: bool,
}

impl Wire for Edition {
    type Checked = Self;

    fn check(self) -> Result<Self, String> {
        Ok(self)
    }
}

/// `POST /api/workers/edition`: sets the edition.
pub(super) async fn set_edition(
    _: Admin,
    State(app): State<Arc<App>>,
    body: JsonBody<Edition>,
) -> Result<StatusCode, Refusal> {
    let community = body.value.community;
    app.database
        .transact(move |savepoint| -> Result<(), TransactionError> {
            savepoint
                .prepare_cached("UPDATE lyftdata_enrolment SET community = ?1")?
                .execute([community])?;
            Ok(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A worker, as shown to the operator.
#[derive(Serialize)]
pub(super) struct Worker {
    #[serde(rename = "worker")]
    id: String,
    name: String,
    auto_enrolled: bool,
    enrolled_at: String,
}

/// `GET /api/workers`: lists the workers.
pub(super) async fn list(
    _: Admin,
    State(app): State<Arc<App>>,
) -> Result<Json<Vec<Worker>>, Refusal> {
    let workers = app
        .database
        .transact(|savepoint| -> Result<Vec<Worker>, TransactionError> {
            let mut statement = savepoint.prepare_cached(
                "SELECT worker, name, enrolled_at FROM lyftdata_workers_2 ORDER BY enrolled_at, name",
            )?;
            let workers = statement.query_map([], |row| {
                Ok(Worker {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    auto_enrolled: true,
                    enrolled_at: rfc3339(row.get(2)?),
                })
            })?;
            Ok(workers.collect::<Result<_, _>>()?)
        })
        .await?;
    Ok(Json(workers))
}

/// `DELETE /api/workers/{worker}`: removes a worker.
pub(super) async fn remove(
    _: Admin,
    State(app): State<Arc<App>>,
    Path(worker): Path<String>,
) -> Result<StatusCode, Refusal> {
    app.database
        .transact(move |savepoint| -> Result<(), TransactionError> {
            let removed = savepoint
                .prepare_cached("DELETE FROM lyftdata_workers_2 WHERE worker = ?1")?
                .execute([worker])?;
            if removed == 0 {
                return Err(Refusal::not_found("worker").into());
            }
            Ok(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
