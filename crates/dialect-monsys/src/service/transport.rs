//! The transport of requests to the hub, which a test replaces.

use tokio::time::Instant;

use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::hub::client::{Client, EXCHANGE, Reply, Request, SendError};
use agent_core::settings::Settings;

/// A transport that sends one request and returns the response.
pub(crate) trait Transport: Sized {
    /// Returns a transport for the hub of the settings.
    fn new(settings: &Settings, keeps_connection: bool) -> Result<Self>;

    /// Sends a request and waits for the response.
    async fn send(
        &self,
        request: Request<'_>,
        environment: &Environment,
    ) -> std::result::Result<Reply, SendError>;
}

impl Transport for Client {
    /// Returns a client that keeps its connection open, if `keeps_connection` says so.
    ///
    /// A heartbeat on an open connection is one round trip and one wake-up. A new connection is three of
    /// each, and a handshake that the hub of 10,000 hosts would make 300 times a second. A hub that does
    /// not want that many open connections closes them.
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
