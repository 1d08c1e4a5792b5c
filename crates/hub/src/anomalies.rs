//! Anomalies of agents, and the operator's list of them.

use crate::app::App;
use crate::clock::{Millis, rfc3339};
use crate::database::TransactionError;
use crate::rate_limit::Caller;
use crate::refusal::Refusal;
use crate::request::Admin;
use crate::signature::{PublicKey, SignatureCheck, verify};
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use rusqlite::{Row, Savepoint, named_params};
use serde::Serialize;
use std::net::IpAddr;
use std::sync::Arc;
use uuid::Uuid;

/// The seven kinds of anomalies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anomaly {
    UnsignedPayload,
    SignatureInvalid,
    ClockDrift,
    Cadence,
    FlatMetrics,
    VersionDowngrade,
    ReadmissionMismatch,
}

impl Anomaly {
    fn kind(self) -> &'static str {
        match self {
            Self::UnsignedPayload => "unsigned_payload",
            Self::SignatureInvalid => "signature_invalid",
            Self::ClockDrift => "clock_drift",
            Self::Cadence => "cadence_anomaly",
            Self::FlatMetrics => "flat_metrics",
            Self::VersionDowngrade => "version_downgrade",
            Self::ReadmissionMismatch => "readmission_mismatch",
        }
    }

    /// Returns the 403 of the two kinds for which a request is refused.
    fn forbidden(self) -> Refusal {
        let message = match self {
            Self::UnsignedPayload => "The body must be signed by the agent's key.",
            _ => "The signature is not one of the agent's key.",
        };
        Refusal::forbidden(self.kind(), message)
    }
}

fn severity(kind: &str) -> &'static str {
    match kind {
        "signature_invalid" => "critical",
        "unsigned_payload" | "version_downgrade" | "readmission_mismatch" => "high",
        _ => "medium",
    }
}

/// The agent, source and time of a call that is being checked.
#[derive(Clone, Copy)]
pub(crate) struct CheckContext<'a> {
    pub(crate) app: &'a App,
    pub(crate) agent_id: Uuid,
    pub(crate) source: IpAddr,
    /// Time of day.
    pub(crate) now: Millis,
    /// The same moment by the steady clock.
    pub(crate) steady: Millis,
}

impl CheckContext<'_> {
    /// Counts one call of the agent, and refuses a call that comes too early.
    pub(crate) fn count(&self, caller: Caller) -> Result<(), Refusal> {
        self.app
            .rate_limiter
            .count(self.agent_id, caller, self.steady)
            .map_err(Refusal::too_many)
    }

    /// Stores an anomaly, or counts one more of its kind.
    pub(crate) fn record(
        &self,
        savepoint: &Savepoint<'_>,
        anomaly: Anomaly,
        detail: &str,
    ) -> rusqlite::Result<()> {
        savepoint
            .prepare_cached(
                "INSERT INTO anomalies (agent_id, kind, detail, source_ip, first_seen_at, last_seen_at)
                 VALUES (:agent, :kind, :detail, :source, :now, :now)
                     ON CONFLICT (agent_id, kind) DO UPDATE
                    SET occurrences = occurrences + 1, detail = excluded.detail,
                        source_ip = excluded.source_ip, last_seen_at = excluded.last_seen_at",
            )?
            .execute(named_params! {
                ":agent": self.agent_id.to_string(),
                ":kind": anomaly.kind(),
                ":detail": detail,
                ":source": self.source.to_string(),
                ":now": self.now,
            })?;
        Ok(())
    }

    /// Checks a signature by the pinned key. A wrong or missing one is an anomaly and a 403.
    pub(crate) fn check_signature(
        &self,
        savepoint: &Savepoint<'_>,
        headers: &HeaderMap,
        body: &[u8],
        key: PublicKey,
    ) -> Result<(), TransactionError> {
        let anomaly = match verify(headers, body, key) {
            SignatureCheck::Valid => return Ok(()),
            SignatureCheck::Missing => Anomaly::UnsignedPayload,
            SignatureCheck::Wrong => Anomaly::SignatureInvalid,
        };
        self.refuse(savepoint, anomaly)
    }

    /// Stores an anomaly and refuses the request for it. Above the rate limit, no more is stored.
    pub(crate) fn refuse(
        &self,
        savepoint: &Savepoint<'_>,
        anomaly: Anomaly,
    ) -> Result<(), TransactionError> {
        self.count(Caller::TokenOnly)?;
        self.record(savepoint, anomaly, "the request was refused")?;
        Err(anomaly.forbidden().into())
    }
}

/// The operator's list.
#[derive(Serialize)]
pub(crate) struct Anomalies {
    anomalies: Vec<AnomalyView>,
}

#[derive(Serialize)]
struct AnomalyView {
    agent_id: String,
    kind: String,
    severity: &'static str,
    detail: String,
    source_ip: String,
    occurrences: i64,
    first_seen_at: String,
    last_seen_at: String,
}

impl AnomalyView {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let kind: String = row.get("kind")?;
        Ok(Self {
            agent_id: row.get("agent_id")?,
            severity: severity(&kind),
            kind,
            detail: row.get("detail")?,
            source_ip: row.get("source_ip")?,
            occurrences: row.get("occurrences")?,
            first_seen_at: rfc3339(row.get("first_seen_at")?),
            last_seen_at: rfc3339(row.get("last_seen_at")?),
        })
    }
}

/// `GET /api/v1/integrity`
pub(crate) async fn list(
    _: Admin,
    State(app): State<Arc<App>>,
) -> Result<Json<Anomalies>, Refusal> {
    let anomalies = app
        .database
        .transact(|savepoint| {
            savepoint
                .prepare_cached("SELECT * FROM anomalies ORDER BY id")?
                .query_map([], AnomalyView::of)?
                .collect()
        })
        .await?;
    Ok(Json(Anomalies { anomalies }))
}
