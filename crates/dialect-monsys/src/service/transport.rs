//! The way to the hub, which a test can cut.

use tokio::time::Instant;

use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::hub::client::{Client, EXCHANGE, Reply, Request, SendError};
use agent_core::settings::Settings;

/// Sends one request and waits for its answer.
pub(crate) trait Wire: Sized {
    /// As the settings say.
    fn new(settings: &Settings, keeps_connection: bool) -> Result<Self>;

    /// One exchange.
    async fn send(
        &self,
        request: Request<'_>,
        environment: &Environment,
    ) -> std::result::Result<Reply, SendError>;
}

impl Wire for Client {
    /// A kept connection is one round trip and one wake-up a heartbeat, where a new one is three of
    /// each and a handshake that the hub of 10,000 hosts would make 300 times a second. A hub that
    /// would rather not hold that many open closes them when it likes.
    fn new(settings: &Settings, keeps_connection: bool) -> Result<Self> {
        Self::lasting(settings, keeps_connection)
    }

    async fn send(
        &self,
        request: Request<'_>,
        environment: &Environment,
    ) -> std::result::Result<Reply, SendError> {
        Self::send(self, request, environment, Instant::now() + EXCHANGE).await
    }
}
