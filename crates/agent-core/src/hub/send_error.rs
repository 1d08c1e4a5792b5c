//! A request that got no usable response: may a retry succeed, and which proxy was in between.

use crate::error::Error;

/// The reason why a request has no usable response. The error does not name a URL yet.
#[derive(Debug)]
pub enum SendError {
    /// A retry may succeed: no connection, time-out, broken body, a certificate out of its time.
    Transient(Error),
    /// A retry would fail too: an untrusted certificate, a body that is too large.
    Final(Error),
}

/// A proxy, described without its secrets.
pub(super) struct Connection {
    /// The setting that names the proxy, with the proxy's host and port.
    pub(super) named: String,
    /// True when the proxy's URL has a user name.
    pub(super) has_user: bool,
}
