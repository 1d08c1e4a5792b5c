//! Anomalies of agents: their kinds, and the checks of a call that record them.

use crate::agents;
use crate::app::App;
use crate::clock::Millis;
use crate::database::TransactionError;
use crate::rate_limit::Caller;
use crate::refusal::Refusal;
use crate::signature::{PublicKey, SignatureCheck, verify};
use axum::http::HeaderMap;
use rusqlite::{Savepoint, named_params};
use std::net::IpAddr;
use uuid::Uuid;

/// Defines the kinds: a line for each, with its name on the wire and its severity.
macro_rules! kinds {
    ($($variant:ident: $kind:literal, $severity:literal;)*) => {
        /// The kinds of anomalies.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Anomaly {
            $($variant,)*
        }

        impl Anomaly {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the name on the wire.
            pub(crate) fn kind(self) -> &'static str {
                match self {
                    $(Self::$variant => $kind,)*
                }
            }

            /// Returns `medium`, `high` or `critical`.
            pub(crate) fn severity(self) -> &'static str {
                match self {
                    $(Self::$variant => $severity,)*
                }
            }
        }
    };
}

kinds! {
    UnsignedPayload: "unsigned_payload", "high";
    SignatureInvalid: "signature_invalid", "critical";
    ClockDrift: "clock_drift", "medium";
    Cadence: "cadence_anomaly", "medium";
    FlatMetrics: "flat_metrics", "medium";
    VersionDowngrade: "version_downgrade", "high";
    ReadmissionMismatch: "readmission_mismatch", "high";
}

impl Anomaly {
    /// Returns the 403 of the two kinds for which a request is refused.
    fn forbidden(self) -> Refusal {
        let message = match self {
            Self::UnsignedPayload => "The body must be signed by the agent's key.",
            _ => "The signature is not one of the agent's key.",
        };
        Refusal::forbidden(self.kind(), message)
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

    /// Stores time and source of a call of the agent itself.
    pub(crate) fn record_call(&self, savepoint: &Savepoint<'_>) -> rusqlite::Result<()> {
        agents::record_call(savepoint, self.agent_id, self.source, self.now, self.steady)
    }

    /// Stores an open anomaly, or counts one more of its kind.
    pub(crate) fn record(
        &self,
        savepoint: &Savepoint<'_>,
        anomaly: Anomaly,
        detail: &str,
    ) -> rusqlite::Result<()> {
        savepoint
            .prepare_cached(
                "INSERT INTO anomalies (agent_id, kind, severity, detail, source_ip, first_seen_at,
                                        last_seen_at)
                 VALUES (:agent, :kind, :severity, :detail, :source, :now, :now)
                     ON CONFLICT (agent_id, kind) WHERE resolved_at IS NULL DO UPDATE
                    SET occurrences = occurrences + 1, detail = excluded.detail,
                        source_ip = excluded.source_ip, last_seen_at = excluded.last_seen_at",
            )?
            .execute(named_params! {
                ":agent": self.agent_id.to_string(),
                ":kind": anomaly.kind(),
                ":severity": anomaly.severity(),
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

#[cfg(test)]
mod tests {
    use super::Anomaly;

    #[test]
    fn the_documentation_lists_every_kind_with_its_severity() {
        let openapi = include_str!("../../../docs/openapi.yaml");
        for anomaly in Anomaly::ALL {
            let (kind, severity) = (anomaly.kind(), anomaly.severity());
            let row = format!("| `{kind}` | {severity} |");
            assert!(openapi.contains(&row), "{row}");
            let kinds = openapi.split("kind: {enum: [").nth(1).unwrap();
            let kinds = kinds.split(']').next().unwrap();
            assert!(
                kinds.split(", ").any(|word| word == kind),
                "{kind}: {kinds}"
            );
        }
    }
}
