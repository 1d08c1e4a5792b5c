//! The operator's calls about anomalies: the list of them, and their resolution.

use crate::app::App;
use crate::body::{RawBody, Wire};
use crate::clock::{Millis, rfc3339};
use crate::refusal::Refusal;
use crate::request::Admin;
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use rusqlite::{OptionalExtension as _, Row, Savepoint, named_params};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// The most characters of a note.
const MAX_NOTE: usize = 1024;

/// The operator's list.
#[derive(Serialize)]
pub(crate) struct Anomalies {
    anomalies: Vec<AnomalyView>,
}

/// An anomaly, as the operator sees it.
#[derive(Serialize)]
pub(crate) struct AnomalyView {
    id: i64,
    agent_id: String,
    kind: String,
    severity: String,
    state: &'static str,
    detail: String,
    source_ip: Option<String>,
    occurrences: i64,
    first_seen_at: String,
    last_seen_at: String,
    resolved_at: Option<String>,
    resolved_by: Option<String>,
    note: Option<String>,
}

impl AnomalyView {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let resolved_at: Option<Millis> = row.get("resolved_at")?;
        Ok(Self {
            id: row.get("id")?,
            agent_id: row.get("agent_id")?,
            kind: row.get("kind")?,
            severity: row.get("severity")?,
            state: match resolved_at {
                None => "open",
                Some(_) => "resolved",
            },
            detail: row.get("detail")?,
            source_ip: row.get("source_ip")?,
            occurrences: row.get("occurrences")?,
            first_seen_at: rfc3339(row.get("first_seen_at")?),
            last_seen_at: rfc3339(row.get("last_seen_at")?),
            resolved_at: resolved_at.map(rfc3339),
            resolved_by: row.get("resolved_by")?,
            note: row.get("note")?,
        })
    }
}

/// The query of the list.
#[derive(Deserialize)]
pub(crate) struct ListQuery {
    state: Option<String>,
    agent_id: Option<String>,
}

/// The rows that the operator requests.
struct Filter {
    open: bool,
    resolved: bool,
    agent_id: Option<Uuid>,
}

impl ListQuery {
    /// Checks the query. Without a state, the list has the anomalies that wait for the operator.
    fn check(self) -> Result<Filter, Refusal> {
        let (open, resolved) = match self.state.as_deref() {
            None | Some("open") => (true, false),
            Some("resolved") => (false, true),
            Some("all") => (true, true),
            Some(_) => return Err(Refusal::invalid("state: must be open, resolved or all")),
        };
        let agent_id = self.agent_id.as_deref().map(str::parse).transpose();
        Ok(Filter {
            open,
            resolved,
            agent_id: agent_id.map_err(|_| Refusal::invalid("agent_id: must be a UUID"))?,
        })
    }
}

/// `GET /api/v1/integrity`
pub(crate) async fn list(
    _: Admin,
    State(app): State<Arc<App>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Anomalies>, Refusal> {
    let Query(query) = query.map_err(|cause| Refusal::invalid(cause.body_text()))?;
    let filter = query.check()?;
    let anomalies = app
        .database
        .transact(move |savepoint| {
            savepoint
                .prepare_cached(
                    "SELECT * FROM anomalies
                      WHERE iif(resolved_at IS NULL, :open, :resolved)
                        AND (:agent IS NULL OR agent_id = :agent)
                      ORDER BY id",
                )?
                .query_map(
                    named_params! {
                        ":open": filter.open,
                        ":resolved": filter.resolved,
                        ":agent": filter.agent_id.map(|id| id.to_string()),
                    },
                    AnomalyView::of,
                )?
                .collect()
        })
        .await?;
    Ok(Json(Anomalies { anomalies }))
}

/// The body of a resolution, which may be left out.
#[derive(Default, Deserialize)]
pub(crate) struct Resolution {
    note: Option<String>,
}

impl Wire for Resolution {
    type Checked = Self;

    fn check(self) -> Result<Self, String> {
        let note = self.note.filter(|note| !note.is_empty());
        let bad = note.as_deref().is_some_and(|note| {
            note.chars().count() > MAX_NOTE || note.chars().any(char::is_control)
        });
        if bad {
            return Err(format!(
                "note: must be at most {MAX_NOTE} characters with no control character"
            ));
        }
        Ok(Self { note })
    }
}

/// `POST /api/v1/integrity/{id}/resolve`: resolves an anomaly for good. The next one of its kind is
/// a new row.
pub(crate) async fn resolve(
    _: Admin,
    State(app): State<Arc<App>>,
    id: Result<Path<i64>, PathRejection>,
    body: RawBody,
) -> Result<Json<AnomalyView>, Refusal> {
    let resolution = if body.bytes.is_empty() {
        Resolution::default()
    } else {
        body.json::<Resolution>()?
    };
    let no_anomaly = || Refusal::not_found("anomaly");
    let Path(id) = id.map_err(|_| no_anomaly())?;
    let now = app.clock.now();
    let found = app
        .database
        .transact(move |savepoint| store(savepoint, id, &resolution, now))
        .await?;
    found.map(Json).ok_or_else(no_anomaly)
}

/// Stores the resolution. The first one stays: it is part of the trail.
fn store(
    savepoint: &Savepoint<'_>,
    id: i64,
    resolution: &Resolution,
    now: Millis,
) -> rusqlite::Result<Option<AnomalyView>> {
    savepoint
        .prepare_cached(
            // The hub has one admin token, so it knows operators by no other name.
            "UPDATE anomalies SET resolved_at = :now, resolved_by = 'admin', note = :note
              WHERE id = :id AND resolved_at IS NULL",
        )?
        .execute(named_params! {":id": id, ":now": now, ":note": resolution.note})?;
    savepoint
        .prepare_cached("SELECT * FROM anomalies WHERE id = ?1")?
        .query_row([id], AnomalyView::of)
        .optional()
}
