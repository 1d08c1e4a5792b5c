//! The time during which agents are readmitted, and the operator's calls about it.

use crate::app::App;
use crate::body::{JsonBody, Wire};
use crate::cidr::parse_list;
use crate::clock::{Millis, parse_rfc3339, rfc3339};
use crate::database::{TransactionError, from_json, to_json};
use crate::receipt::TENANT;
use crate::refusal::Refusal;
use crate::request::Admin;
use crate::revocations::{Completeness, Entry, RevocationFile};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rusqlite::{OptionalExtension as _, Row, Savepoint, named_params};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use uuid::Uuid;

/// One second to thirty days.
const OPEN_SECS: RangeInclusive<i64> = 1..=2_592_000;
const MAX_AGENTS: RangeInclusive<i64> = 1..=1_000_000_000;

/// The operator's body on the wire.
#[derive(Deserialize)]
pub(crate) struct OpenBody {
    open_for_secs: i64,
    max_agents: i64,
    issued_before: Option<String>,
    allowed_cidrs: Option<Vec<String>>,
    accept_lost_revocations: Option<bool>,
}

/// The checked body.
pub(crate) struct Opening {
    open_for: Millis,
    max_agents: i64,
    issued_before: Option<Millis>,
    /// In their canonical form.
    allowed_cidrs: Vec<String>,
    accepts_lost: bool,
}

impl Wire for OpenBody {
    type Checked = Opening;

    fn check(self) -> Result<Opening, String> {
        if !OPEN_SECS.contains(&self.open_for_secs) {
            return Err("open_for_secs: must be 1 to 2592000 (30 days)".to_owned());
        }
        if !MAX_AGENTS.contains(&self.max_agents) {
            return Err("max_agents: must be 1 to 1000000000".to_owned());
        }
        let issued_before = self
            .issued_before
            .map(|text| parse_rfc3339(&text).ok_or("issued_before: must be an RFC 3339 time"))
            .transpose()?;
        let allowed_cidrs = parse_list(self.allowed_cidrs)?;
        Ok(Opening {
            open_for: self.open_for_secs * 1000,
            max_agents: self.max_agents,
            issued_before,
            allowed_cidrs,
            accepts_lost: self.accept_lost_revocations.unwrap_or_default(),
        })
    }
}

/// The door, as the operator sees it.
#[derive(Serialize)]
pub(crate) struct DoorView {
    state: &'static str,
    open_until: Option<String>,
    max_agents: Option<i64>,
    readmitted: i64,
    issued_before: Option<String>,
    allowed_cidrs: Vec<String>,
    revocations: &'static str,
}

impl DoorView {
    fn load(savepoint: &Savepoint<'_>, app: &App) -> rusqlite::Result<Self> {
        let found = savepoint
            .prepare_cached("SELECT * FROM readmission_door WHERE tenant = ?1")?
            .query_row([TENANT], |row| Self::of(row, app))
            .optional()?;
        Ok(found.unwrap_or_else(|| Self {
            state: "shut",
            open_until: None,
            max_agents: None,
            readmitted: 0,
            issued_before: None,
            allowed_cidrs: Vec::new(),
            revocations: completeness(app).name(),
        }))
    }

    fn of(row: &Row<'_>, app: &App) -> rusqlite::Result<Self> {
        let (max_agents, readmitted) = (row.get("max_agents")?, row.get("readmitted")?);
        let remaining = row.get::<_, Millis>("open_until")? - app.clock.steady();
        let issued_before: Option<Millis> = row.get("issued_before")?;
        let state = if row.get("is_closed")? || app.receipt_keys.is_none() {
            "shut"
        } else if remaining <= 0 {
            "expired"
        } else if readmitted >= max_agents {
            "full"
        } else {
            "open"
        };
        Ok(Self {
            state,
            // The door follows the steady clock, and the operator the time of day.
            open_until: Some(rfc3339(app.clock.now().saturating_add(remaining))),
            max_agents: Some(max_agents),
            readmitted,
            issued_before: issued_before.map(rfc3339),
            allowed_cidrs: from_json(row, "allowed_cidrs")?,
            revocations: completeness(app).name(),
        })
    }
}

/// Returns whether the hub knows all revocations. Without a file it cannot.
fn completeness(app: &App) -> Completeness {
    app.revocations
        .as_ref()
        .map_or(Completeness::Lost, RevocationFile::completeness)
}

/// `GET /api/v1/readmission`
pub(crate) async fn view(_: Admin, State(app): State<Arc<App>>) -> Result<Json<DoorView>, Refusal> {
    let database = app.database.clone();
    let view = database
        .transact(move |savepoint| DoorView::load(savepoint, &app))
        .await?;
    Ok(Json(view))
}

/// `POST /api/v1/readmission`: opens the door, or opens it again on other terms.
pub(crate) async fn open(
    _: Admin,
    State(app): State<Arc<App>>,
    body: JsonBody<OpenBody>,
) -> Result<Json<DoorView>, Refusal> {
    let opening = body.value;
    let database = app.database.clone();
    let view = database
        .transact(move |savepoint| -> Result<DoorView, TransactionError> {
            store(savepoint, &app, &opening)?;
            Ok(DoorView::load(savepoint, &app)?)
        })
        .await?;
    Ok(Json(view))
}

fn store(savepoint: &Savepoint<'_>, app: &App, opening: &Opening) -> Result<(), TransactionError> {
    if app.receipt_keys.is_none() {
        let message = "The hub has no receipt key, so it accepts no receipt: start it with \
                       --receipt-key.";
        return Err(Refusal::new(StatusCode::CONFLICT, "no_receipt_key", message).into());
    }
    let is_lost = completeness(app) == Completeness::Lost;
    if is_lost && !opening.accepts_lost {
        let message = "The file of revocations is lost or was never there, so agents that were \
                       deleted could come back: restore it, or send accept_lost_revocations.";
        return Err(Refusal::new(StatusCode::CONFLICT, "revocations_lost", message).into());
    }
    savepoint
        .prepare_cached(
            "INSERT OR REPLACE INTO readmission_door (tenant, open_until, max_agents, issued_before,
                                                      allowed_cidrs, accepts_lost)
             VALUES (:tenant, :until, :max_agents, :issued_before, :cidrs, :accepts_lost)",
        )?
        .execute(named_params! {
            ":tenant": TENANT,
            ":until": app.clock.steady().saturating_add(opening.open_for),
            ":max_agents": opening.max_agents,
            ":issued_before": opening.issued_before,
            ":cidrs": to_json(&opening.allowed_cidrs)?,
            ":accepts_lost": opening.accepts_lost,
        })?;
    if is_lost {
        app.revoke(&[Entry::LostAccepted])?;
    }
    Ok(())
}

/// `DELETE /api/v1/readmission`: shuts the door.
pub(crate) async fn close(_: Admin, State(app): State<Arc<App>>) -> Result<StatusCode, Refusal> {
    app.database
        .transact(|savepoint| {
            savepoint
                .prepare_cached("UPDATE readmission_door SET is_closed = 1 WHERE tenant = ?1")?
                .execute([TENANT])
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Shuts the door at the start of a hub whose revocations are lost, unless the operator has opened
/// it for just that. `is_new` is whether the file was missing until now.
pub(crate) fn shut_after_loss(
    savepoint: &Savepoint<'_>,
    completeness: Completeness,
    is_new: bool,
) -> rusqlite::Result<()> {
    if completeness != Completeness::Lost {
        return Ok(());
    }
    let shut = savepoint
        .prepare_cached(
            "UPDATE readmission_door SET is_closed = 1
              WHERE is_closed = 0 AND (?1 OR NOT accepts_lost)",
        )?
        .execute([is_new])?;
    if shut > 0 {
        tracing::warn!("the revocations are lost: readmission is shut");
    }
    Ok(())
}

/// A readmission at the door.
pub(super) struct Visitor {
    pub(super) agent_id: Uuid,
    pub(super) issued_at: Millis,
    pub(super) source: IpAddr,
    pub(super) steady: Millis,
}

/// The condition under which the door is open for a visitor.
const IS_OPEN: &str = "tenant = :tenant AND is_closed = 0 AND open_until > :steady
    AND (issued_before IS NULL OR :issued_at < issued_before) AND ip_in_cidrs(:source, allowed_cidrs)";

impl Visitor {
    /// Returns whether the door is open for this visitor, if there is room.
    pub(super) fn may_enter(&self, savepoint: &Savepoint<'_>) -> rusqlite::Result<bool> {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM readmission_door WHERE {IS_OPEN})");
        savepoint.prepare_cached(&sql)?.query_row(
            named_params! {
                ":tenant": TENANT,
                ":steady": self.steady,
                ":issued_at": self.issued_at,
                ":source": self.source.to_string(),
            },
            |row| row.get(0),
        )
    }

    /// Passes the door in one statement, which counts an agent that the database does not have.
    /// Returns false if the door is not open for this visitor, or has no room.
    pub(super) fn enter(&self, savepoint: &Savepoint<'_>) -> rusqlite::Result<bool> {
        let sql = format!(
            "UPDATE readmission_door
                SET readmitted = readmitted + NOT EXISTS (SELECT 1 FROM agents WHERE id = :agent)
              WHERE {IS_OPEN}
                AND (readmitted < max_agents OR EXISTS (SELECT 1 FROM agents WHERE id = :agent))"
        );
        let entered = savepoint.prepare_cached(&sql)?.execute(named_params! {
            ":tenant": TENANT,
            ":steady": self.steady,
            ":issued_at": self.issued_at,
            ":source": self.source.to_string(),
            ":agent": self.agent_id.to_string(),
        })?;
        Ok(entered > 0)
    }
}
