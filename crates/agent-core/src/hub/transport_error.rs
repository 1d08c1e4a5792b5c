//! Errors of requests without a usable response. Their texts hold no secret.

use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error as TlsError, OtherError, PeerIncompatible};

use super::resolver::ResolveError;
use super::timeouts::CONNECT;
use super::tls::PinMismatch;
use crate::clock;
use crate::error::{Error, ErrorId};

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

/// Returns the error of a request that got `error` instead of a response, through the proxy `via` if there is
/// one. `pending` is the name that was not resolved yet.
pub(super) fn no_answer(
    error: &reqwest::Error,
    pending: Option<ResolveError>,
    via: Option<&Connection>,
) -> SendError {
    if let Some(tls) = tls_error(error) {
        return tls;
    }
    if let Some(name) = resolve_error(error) {
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
        ""
    };
    let cause = match via {
        Some(via) if error.is_connect() => format!("{seen}{hint} ({})", via.named),
        _ => format!("{seen}{hint}"),
    };
    SendError::Transient(Error::new(ErrorId::Unreachable, cause))
}

/// Returns the error of a name that was not resolved: the hub's, or that of the proxy `via`.
pub(super) fn unresolved(error: &ResolveError, via: Option<&Connection>) -> SendError {
    let cause = match via {
        Some(via) => format!("{error} ({})", via.named),
        None => error.to_string(),
    };
    SendError::Transient(Error::new(ErrorId::Unreachable, cause).hint(error.hint()))
}

/// Returns the failed name resolution behind `error`, if there is one.
fn resolve_error(error: &reqwest::Error) -> Option<&ResolveError> {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref::<ResolveError>() {
            return Some(error);
        }
        next = cause.source();
    }
    None
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
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    match parts.len() {
        0 => error.to_string(),
        n => parts[n.saturating_sub(2)..].join(": "),
    }
}

/// Returns the TLS error behind `error`, if there is one.
fn tls_error(error: &reqwest::Error) -> Option<SendError> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref::<TlsError>() {
            return Some(explain(error));
        }
        // `source` of an `io::Error` skips the error that it wraps, and these errors come in layers.
        next = match cause.downcast_ref::<std::io::Error>() {
            Some(layer) => layer
                .get_ref()
                .map(|inner| inner as &(dyn std::error::Error + 'static)),
            None => cause.source(),
        };
    }
    None
}

fn explain(error: &TlsError) -> SendError {
    let untrusted = |cause: String| Error::new(ErrorId::Untrusted, cause);
    let unreachable = |cause: String| SendError::Transient(Error::new(ErrorId::Unreachable, cause));
    let certificate = match error {
        TlsError::InvalidCertificate(certificate) => certificate,
        TlsError::InvalidMessage(_) => {
            return unreachable("that port does not speak TLS (is it plain http?)".into());
        }
        TlsError::AlertReceived(AlertDescription::ProtocolVersion)
        | TlsError::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => return too_old(),
        TlsError::AlertReceived(alert) if is_about_our_certificate(*alert) => {
            let cause =
                format!("the server does not accept this host's certificate (TLS: {error})");
            return SendError::Final(Error::new(ErrorId::Rejected, cause));
        }
        _ => return unreachable(format!("TLS failed: {error}")),
    };
    if let Some(error) = out_of_time(certificate) {
        // A clock may be set, and a certificate renewed, within the deadline.
        return SendError::Transient(error);
    }
    SendError::Final(match certificate {
        CertificateError::UnknownIssuer => untrusted(
            "its chain ends in a CA that is not trusted here (a private CA, an intermediate certificate that the server does not send, or a device that intercepts TLS)"
                .into(),
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            untrusted(format!(
                "the certificate is not for {}, but for {}",
                expected.to_str(),
                names(presented)
            ))
            .hint(WRONG_NAME)
        }
        CertificateError::NotValidForName => {
            untrusted("the certificate is not for this name".into()).hint(WRONG_NAME)
        }
        CertificateError::Other(OtherError(inner)) if inner.is::<PinMismatch>() => {
            untrusted("no CA of its chain has the pinned key (--ca-pin)".into())
        }
        _ => untrusted(format!("it does not verify: {certificate}")),
    })
}

/// Returns whether an alert is about the client's certificate, or about a missing one (RFC 8446, section 6.2).
const fn is_about_our_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    )
}

const WRONG_NAME: &str = "set --hub-url to a name that the certificate is for, or issue a certificate for the hub that has this name too";

/// Lists the names of a certificate. Each comes as `DnsName("hub.example.com")` or `IpAddress(192.0.2.1)`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').map_or(&**name, |(_, inner)| inner);
        inner.trim_end_matches(')').trim_matches('"').to_owned()
    };
    match presented {
        [] => "no name".into(),
        names => names
            .iter()
            .take(8)
            .map(bare)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn too_old() -> SendError {
    SendError::Final(
        Error::new(
            ErrorId::NotThisProtocol,
            "the server supports neither TLS 1.2 nor TLS 1.3, and older versions are not safe",
        )
        .hint("enable TLS 1.2 or 1.3 on the hub, or on the proxy or load balancer in front of it"),
    )
}

/// Returns the error of a certificate that is valid at another time. The host's clock may be wrong, so the
/// error names both times.
fn out_of_time(certificate: &CertificateError) -> Option<Error> {
    let (cause, hint) = match certificate {
        CertificateError::ExpiredContext { time, not_after } => (
            format!(
                "the certificate expired at {}, and this host's clock says {}: nobody renewed it, or the clock is ahead",
                shown(*not_after),
                shown(*time)
            ),
            EXPIRED,
        ),
        CertificateError::NotValidYetContext { time, not_before } => (
            format!(
                "the certificate is valid from {}, and this host's clock says {}: the clock is behind",
                shown(*not_before),
                shown(*time)
            ),
            CLOCK_IS_BEHIND,
        ),
        CertificateError::Expired => (
            "the certificate has expired, or this host's clock is ahead".into(),
            EXPIRED,
        ),
        CertificateError::NotValidYet => (
            "the certificate is not valid yet: this host's clock is behind".into(),
            CLOCK_IS_BEHIND,
        ),
        _ => return None,
    };
    Some(Error::new(ErrorId::Untrusted, cause).hint(hint))
}

const EXPIRED: &str = "renew the hub's certificate; or, if the clock is wrong: timedatectl set-ntp true, and run the same command again";
const CLOCK_IS_BEHIND: &str = "set this host's clock, and run the same command again: timedatectl set-ntp true, or: date -u -s 'YYYY-MM-DD HH:MM'";

fn shown(time: UnixTime) -> impl std::fmt::Display {
    clock::rfc3339(clock::of_1970(Duration::from_secs(time.as_secs())))
}
