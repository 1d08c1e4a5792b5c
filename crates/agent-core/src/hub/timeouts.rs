//! Time limits of one request.

use std::time::Duration;

/// Time limit for opening a connection, TLS included.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// Time limit for one request with its response.
pub const EXCHANGE: Duration = Duration::from_secs(30);
