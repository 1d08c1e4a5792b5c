//! Errors of requests without a usable response. Their texts hold no secret.

use rustix::io::Errno;
use rustls::Error as TlsError;

use super::resolver::ResolveError;
pub(super) use super::send_error::{Connection, SendError};
use super::timeouts::CONNECT;
use super::tls::Trust;
use super::tls_error::explain;
use crate::error::{Error, ErrorId};
use crate::tls_words;

/// The text of hyper-util for a connection that failed on the way to the proxy, and not to the hub.
const NO_WAY_TO_PROXY: &str = "tunnel error: failed to create underlying connection";

/// Returns the error of a request that got `error` instead of a response, through the proxy `via` if there is
/// one. `pending` is the name that was not resolved yet, and `trust` is the one in the hub.
pub(super) fn no_answer(
    error: &reqwest::Error,
    pending: Option<ResolveError>,
    trust: Trust,
    via: Option<&Connection>,
) -> SendError {
    if let Some(tls) = causes(error).find_map(|cause| cause.downcast_ref::<TlsError>()) {
        let is_proxys = causes(error).any(|cause| cause.to_string().starts_with(NO_WAY_TO_PROXY));
        return explain(tls, trust, via, is_proxys);
    }
    if let Some(name) = causes(error).find_map(|cause| cause.downcast_ref::<ResolveError>()) {
        return unresolved(name, via);
    }
    if let Some(name) = pending.filter(|_| error.is_timeout()) {
        return unresolved(&name, via);
    }
    let cause = chain(error);
    if cause.contains("tunnel error: proxy authorization required") {
        return no_password(via);
    }
    let seen = if cause.contains("tunnel error: unsuccessful") {
        "the proxy opened no tunnel: it cannot reach the hub, or does not allow connections to it"
            .into()
    } else if error.is_connect() && error.is_timeout() {
        let limit = CONNECT.as_secs();
        format!(
            "no connection within {limit} s: no server answers there, or it does not answer with TLS"
        )
    } else if error.is_timeout() {
        format!("no answer in time: {cause}")
    } else if error.is_connect() {
        format!("no connection: {cause}")
    } else {
        format!("the connection broke before an answer: {cause}")
    };
    let hint = if cause.contains("invalid HTTP version") {
        " (does the server expect TLS? then the URL begins with https://)"
    } else {
        on_this_host(error)
    };
    let cause = match via {
        Some(via) if error.is_connect() => format!("{seen}{hint} ({})", via.named),
        _ => format!("{seen}{hint}"),
    };
    SendError::Transient(Error::new(ErrorId::Unreachable, cause))
}

/// Returns the likely reasons of an error that comes from this host and not from the network, connect(2).
fn on_this_host(error: &reqwest::Error) -> &'static str {
    let io = causes(error).find_map(|cause| cause.downcast_ref::<std::io::Error>());
    match io.and_then(Errno::from_io_error) {
        Some(Errno::ACCESS | Errno::PERM) if error.is_connect() => {
            " (this host forbids the connection: a firewall rule, SELinux, or `IPAddressDeny=` of the service)"
        }
        Some(Errno::AFNOSUPPORT) => {
            " (this host forbids this family of addresses: its kernel has no IPv6, or `RestrictAddressFamilies=` \
             of the service)"
        }
        _ => "",
    }
}

/// Returns the error of a name that was not resolved: the hub's, or that of the proxy `via`.
pub(super) fn unresolved(error: &ResolveError, via: Option<&Connection>) -> SendError {
    let cause = match via {
        Some(via) => format!("{error} ({})", via.named),
        None => error.to_string(),
    };
    SendError::Transient(Error::new(ErrorId::Unreachable, cause).hint(error.hint()))
}

/// Returns the error of a proxy's 407, which a retry would get too.
fn no_password(via: Option<&Connection>) -> SendError {
    let (named, does) = match via {
        Some(via) if via.has_user => (&*via.named, "does not accept the user and password of"),
        Some(via) => (
            &*via.named,
            "requires a user and a password, and none is in",
        ),
        None => ("", "requires a user and a password in"),
    };
    SendError::Final(
        Error::new(
            ErrorId::Unreachable,
            format!("the proxy answered HTTP 407: it {does} its URL ({named})"),
        )
        .hint("set the proxy to http://USER:PASSWORD@HOST:PORT, with special characters as %XX"),
    )
}

/// Returns an error that a retry may resolve.
pub(super) fn transient(seen: impl Into<String>) -> SendError {
    SendError::Transient(Error::new(ErrorId::Unreachable, seen))
}

/// Returns the error of a server that does not follow the protocol.
pub(super) fn not_our_protocol(cause: &str) -> SendError {
    SendError::Final(Error::new(ErrorId::NotThisProtocol, cause))
}

/// Returns the two innermost causes. The outer ones repeat the URL, which the message already names.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in causes(error).skip(1) {
        let text = match cause.downcast_ref::<TlsError>() {
            Some(error) => tls_words::tls(error),
            None => cause.to_string(),
        };
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
    }
    match parts.len() {
        0 => error.to_string(),
        n => parts[n.saturating_sub(2)..].join(": "),
    }
}

/// Returns an error and the causes behind it. An `io::Error` that wraps another error is passed over: it has
/// the text of the other, and its `source` skips the other.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    let inner = |error: &'a (dyn std::error::Error + 'static)| {
        let mut error = error;
        while let Some(inner) = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            error = inner;
        }
        error
    };
    std::iter::successors(Some(inner(error)), move |error| error.source().map(inner))
}
