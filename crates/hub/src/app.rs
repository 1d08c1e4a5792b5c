//! The state that all requests share.

use crate::capacity::Limits;
use crate::cidr::Cidr;
use crate::clock::{Clock, Millis};
use crate::database::Database;
use crate::origin::Origins;
use crate::rate_limit::RateLimiter;
use crate::receipt::{Receipt, Subject};
use crate::receipt_key::ReceiptKeys;
use crate::refusal::Refusal;
use crate::revocations::{self, Entry, RevocationFile};
use crate::secret::TokenHash;
use crate::silence_schedule::Schedule;
use std::path::PathBuf;
use std::sync::Arc;

/// The state that all requests share.
pub struct App {
    /// The hub's address, such as `https://127.0.0.1:41234`.
    pub url: String,
    /// The database.
    pub database: Database,
    /// The hub's clock.
    pub clock: Clock,
    /// The interval in seconds at which agents are to send heartbeats.
    pub heartbeat_interval_secs: u32,
    pub(crate) origins: Origins,
    pub(crate) dist: Option<PathBuf>,
    pub(crate) admin_token: TokenHash,
    /// The keys that sign and verify receipts; without any, the hub gives none.
    pub(crate) receipt_keys: Option<Arc<ReceiptKeys>>,
    pub(crate) revocations: Option<RevocationFile>,
    pub(crate) rate_limiter: RateLimiter,
    pub(crate) silence: Schedule,
    pub(crate) trusted_proxies: Vec<Cidr>,
    pub(crate) limits: Limits,
}

impl App {
    /// Appends entries to the file of revocations. See [`revocations::record`].
    pub(crate) fn revoke(&self, entries: &[Entry]) -> rusqlite::Result<()> {
        revocations::record(self.revocations.as_ref(), entries, self.clock.now())
    }

    /// Makes a signed receipt, if the hub has a key for that, and the agent was still there when the
    /// time for the receipt was stored.
    pub(crate) fn receipt(
        &self,
        agent: Subject<'_>,
        issued_at: Option<Millis>,
    ) -> Result<Option<String>, Refusal> {
        let (Some(keys), Some(issued_at)) = (&self.receipt_keys, issued_at) else {
            return Ok(None);
        };
        let signed = Receipt::new(agent, issued_at).sign(keys);
        signed.map(Some).map_err(|_| Refusal::internal())
    }

    pub(crate) fn interval_millis(&self) -> Millis {
        Millis::from(self.heartbeat_interval_secs) * 1000
    }
}
