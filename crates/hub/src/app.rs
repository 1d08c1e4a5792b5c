//! The state that all requests share.

use crate::capacity::Limits;
use crate::cidr::Cidr;
use crate::clock::{Clock, Millis};
use crate::database::Database;
use crate::origin::Origins;
use crate::rate_limit::RateLimiter;
use crate::secret::TokenHash;
use crate::silence::Schedule;
use std::path::PathBuf;

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
    pub(crate) rate_limiter: RateLimiter,
    pub(crate) silence: Schedule,
    pub(crate) trusted_proxies: Vec<Cidr>,
    pub(crate) limits: Limits,
}

impl App {
    pub(crate) fn interval_millis(&self) -> Millis {
        Millis::from(self.heartbeat_interval_secs) * 1000
    }
}
