//! Why there is no answer, in words that say what to fix and hold no secret.

use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error as TlsError, OtherError, PeerIncompatible};

use super::client::CONNECT;
use super::tls::PinMismatch;
use crate::clock;
use crate::error::{Error, ErrorId};

/// Why there is no answer; the error is not yet about any URL.
#[derive(Debug)]
pub enum SendError {
    /// No connection, time-out, broken body, a certificate out of its time: worth another try.
    Transient(Error),
    /// No retry will change it: an untrusted certificate, too large a body.
    Final(Error),
}

/// A proxy, in words that hold no secret.
pub(super) struct Connection {
    /// Which setting names it, and what.
    pub(super) named: String,
    pub(super) has_user: bool,
}

/// What it means that `error` came instead of an answer, on a way through `via` if there is one.
pub(super) fn no_answer(error: &reqwest::Error, via: Option<&Connection>) -> SendError {
    if let Some(fault) = tls_fault(error) {
        return fault;
    }
    let cause = chain(error);
    if cause.contains("tunnel error: proxy authorization required") {
        return no_password(via);
    }
    let seen = if cause.contains("tunnel error: unsuccessful") {
        "the proxy opened no tunnel: it does not reach the hub, or lets nobody go there".into()
    } else if error.is_connect() && error.is_timeout() {
        let limit = CONNECT.as_secs();
        format!("no connection within {limit} s: nothing answers there, or no TLS is answered")
    } else if error.is_timeout() {
        format!("no answer in time: {cause}")
    } else if error.is_connect() {
        format!("no connection: {cause}")
    } else {
        format!("the connection broke before an answer: {cause}")
    };
    let hint = if cause.contains("invalid HTTP version") {
        " (is TLS spoken at that port? then the URL begins with https://)"
    } else {
        ""
    };
    let fault = match via {
        Some(via) if error.is_connect() => format!("{seen}{hint} ({})", via.named),
        _ => format!("{seen}{hint}"),
    };
    let fault = Error::new(ErrorId::Unreachable, fault);
    SendError::Transient(if cause.contains("error resolving DNS") {
        fault.hint(
            "check the name, and the name server in /etc/resolv.conf: getent ahosts NAME; then run the same command again",
        )
    } else {
        fault
    })
}

/// The proxy answered 407, as it will the next time.
fn no_password(via: Option<&Connection>) -> SendError {
    let (named, does) = match via {
        Some(via) if via.has_user => (&*via.named, "does not accept the user and password of"),
        Some(via) => (&*via.named, "wants a user and a password, and none is in"),
        None => ("", "wants a user and a password for"),
    };
    SendError::Final(
        Error::new(
            ErrorId::Unreachable,
            format!("the proxy answered HTTP 407: it {does} its URL ({named})"),
        )
        .hint("write the proxy as http://USER:PASSWORD@HOST:PORT, special characters as %XX"),
    )
}

/// Worth another try.
pub(super) fn transient(seen: impl Into<String>) -> SendError {
    SendError::Transient(Error::new(ErrorId::Unreachable, seen))
}

/// Not the protocol.
pub(super) fn not_our_protocol(cause: &str) -> SendError {
    SendError::Final(Error::new(ErrorId::NotThisProtocol, cause))
}

/// The innermost causes, without the URL, which the message names already.
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

/// The TLS fault behind `error`, if there is one.
fn tls_fault(error: &reqwest::Error) -> Option<SendError> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref::<TlsError>() {
            return Some(explain(error));
        }
        // An io::Error hides what it wraps from `source`, and they come in layers.
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
            return unreachable("no TLS is spoken at that port (plain http?)".into());
        }
        TlsError::AlertReceived(AlertDescription::ProtocolVersion)
        | TlsError::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => return too_old(),
        TlsError::AlertReceived(alert) if is_about_our_certificate(*alert) => {
            let cause = format!("the server does not take this host's certificate (TLS: {error})");
            return SendError::Final(Error::new(ErrorId::Rejected, cause));
        }
        _ => return unreachable(format!("TLS failed: {error}")),
    };
    if let Some(fault) = out_of_time(certificate) {
        // A clock may be set, and a certificate renewed, within the deadline.
        return SendError::Transient(fault);
    }
    SendError::Final(match certificate {
        CertificateError::UnknownIssuer => untrusted(
            "its chain ends in a CA that is not trusted here (a private CA, an intermediate certificate that the server does not send along, or something that intercepts TLS)"
                .into(),
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            untrusted(format!(
                "it is not for {}, but for {}",
                expected.to_str(),
                names(presented)
            ))
            .hint(WRONG_NAME)
        }
        CertificateError::NotValidForName => {
            untrusted("it is not for this name".into()).hint(WRONG_NAME)
        }
        CertificateError::Other(OtherError(inner)) if inner.is::<PinMismatch>() => {
            untrusted("no CA of its chain has the pinned key (--ca-pin)".into())
        }
        _ => untrusted(format!("it does not verify: {certificate}")),
    })
}

/// What a server says of a client's certificate, or of there being none (RFC 8446, section 6.2).
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

const WRONG_NAME: &str = "give --hub-url with a name that the certificate is for, or have the hub's certificate made for this one too";

/// Each comes as `DnsName("hub.example.com")` or `IpAddress(192.0.2.1)`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').map_or(&**name, |(_, inner)| inner);
        inner.trim_end_matches(')').trim_matches('"').to_owned()
    };
    match presented {
        [] => "no name at all".into(),
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
            "the server speaks neither TLS 1.2 nor TLS 1.3, and nothing older is safe",
        )
        .hint("have TLS 1.2 or 1.3 switched on at the hub, or at the proxy or load balancer before it"),
    )
}

/// A certificate that would be good at another time. The host's clock may be what is wrong, so
/// both times are told.
fn out_of_time(certificate: &CertificateError) -> Option<Error> {
    let (cause, hint) = match certificate {
        CertificateError::ExpiredContext { time, not_after } => (
            format!(
                "it expired at {}, and this host's clock says {}: it was not renewed, or the clock is ahead",
                shown(*not_after),
                shown(*time)
            ),
            EXPIRED,
        ),
        CertificateError::NotValidYetContext { time, not_before } => (
            format!(
                "it begins at {}, and this host's clock says {}: the clock is behind",
                shown(*not_before),
                shown(*time)
            ),
            CLOCK_IS_BEHIND,
        ),
        CertificateError::Expired => (
            "it has expired, or this host's clock is ahead".into(),
            EXPIRED,
        ),
        CertificateError::NotValidYet => (
            "it is not valid yet: this host's clock is behind".into(),
            CLOCK_IS_BEHIND,
        ),
        _ => return None,
    };
    Some(Error::new(ErrorId::Untrusted, cause).hint(hint))
}

const EXPIRED: &str = "have the hub's certificate renewed; or, if it is the clock: timedatectl set-ntp true, and run the same command again";
const CLOCK_IS_BEHIND: &str = "set this host's clock, and run the same command again: timedatectl set-ntp true, or: date -u -s 'YYYY-MM-DD HH:MM'";

fn shown(time: UnixTime) -> impl std::fmt::Display {
    clock::rfc3339(clock::of_1970(Duration::from_secs(time.as_secs())))
}
