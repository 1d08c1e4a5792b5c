//! Errors of TLS: which certificate, what is wrong with it, and how it is fixed.

use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error as TlsError, OtherError, PeerIncompatible};

use super::tls::{PinMismatch, ProxyRefused, Trust};
use super::transport_error::{Connection, SendError};
use crate::clock;
use crate::error::{Error, ErrorId};
use crate::tls_words;

/// Returns the error of a handshake: with the proxy `via` if `is_proxys`, or else with the hub.
pub(super) fn explain(
    error: &TlsError,
    trust: Trust,
    via: Option<&Connection>,
    is_proxys: bool,
) -> SendError {
    let named = match via {
        Some(via) if is_proxys => format!(" ({})", via.named),
        _ => String::new(),
    };
    let unreachable =
        |cause: String| SendError::Transient(Error::new(ErrorId::Unreachable, cause + &named));
    match error {
        TlsError::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
            match inner.downcast_ref::<ProxyRefused>() {
                Some(ProxyRefused(refused)) => of_proxy(refused, &named),
                None => of_hub(error, trust, is_proxys, &named),
            }
        }
        TlsError::InvalidCertificate(_) => of_hub(error, trust, is_proxys, &named),
        TlsError::InvalidMessage(_) => {
            unreachable("that port does not speak TLS (is it plain http?)".into())
        }
        TlsError::AlertReceived(AlertDescription::ProtocolVersion)
        | TlsError::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => too_old(&named),
        TlsError::AlertReceived(alert) if is_about_our_certificate(*alert) => {
            let cause = format!(
                "the server does not accept this host's certificate (TLS: {}){named}",
                tls_words::tls(error)
            );
            SendError::Final(Error::new(ErrorId::Rejected, cause))
        }
        _ => unreachable(format!("TLS failed: {}", tls_words::tls(error))),
    }
}

/// Returns the error of the hub's certificate, or of a proxy's that has the hub's host name.
fn of_hub(error: &TlsError, trust: Trust, is_proxys: bool, named: &str) -> SendError {
    let TlsError::InvalidCertificate(refused) = error else {
        let cause = format!("TLS failed: {}", tls_words::tls(error));
        return SendError::Transient(Error::new(ErrorId::Unreachable, cause));
    };
    let (cause, hint) = described(refused, trust);
    let untrusted = if is_proxys {
        Error::new(ErrorId::ProxyUntrusted, format!("{cause}{named}")).hint(SAME_HOST)
    } else {
        Error::new(ErrorId::Untrusted, cause)
    };
    let untrusted = match hint {
        Some(hint) if !is_proxys => untrusted.hint(hint),
        _ => untrusted,
    };
    sent(untrusted, refused)
}

/// Returns the error of a proxy's certificate.
fn of_proxy(refused: &CertificateError, named: &str) -> SendError {
    let (cause, hint) = described(refused, Trust::Public);
    let mut untrusted = Error::new(ErrorId::ProxyUntrusted, format!("{cause}{named}"));
    if let Some(hint) = hint.filter(|hint| *hint == EXPIRED || *hint == CLOCK_IS_BEHIND) {
        untrusted = untrusted.hint(hint);
    }
    sent(untrusted, refused)
}

/// Returns the error as one that a retry may resolve, or not: a clock may be set, and a certificate renewed,
/// within the deadline.
fn sent(untrusted: Error, refused: &CertificateError) -> SendError {
    if out_of_time(refused).is_some() {
        SendError::Transient(untrusted)
    } else {
        SendError::Final(untrusted)
    }
}

/// Returns the cause of a refused certificate, and the hint if the usual one would not help.
fn described(refused: &CertificateError, trust: Trust) -> (String, Option<&'static str>) {
    if let Some((cause, hint)) = out_of_time(refused) {
        return (cause, Some(hint));
    }
    match refused {
        CertificateError::UnknownIssuer => {
            let hint = (trust != Trust::Public).then_some(NOT_IN_FILE);
            ("its chain ends in a CA that is not trusted here (a private CA, an intermediate certificate that the server does not send, or a device that intercepts TLS)".into(), hint)
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let cause = format!(
                "the certificate is not for {}, but for {}",
                expected.to_str(),
                names(presented)
            );
            (cause, Some(WRONG_NAME))
        }
        CertificateError::NotValidForName => (
            "the certificate is not for this name".into(),
            Some(WRONG_NAME),
        ),
        CertificateError::Other(OtherError(inner)) if inner.is::<PinMismatch>() => (
            "no CA of its chain has the pinned key (--ca-pin)".into(),
            Some(OTHER_PIN),
        ),
        _ => {
            let hint = hint_for(refused, trust);
            (
                format!("it does not verify: {}", tls_words::certificate(refused)),
                Some(hint),
            )
        }
    }
}

fn hint_for(refused: &CertificateError, trust: Trust) -> &'static str {
    if tls_words::is_key_type(refused) {
        return "issue the hub's certificate, and that of its CA, with a key that is P-256, P-384, Ed25519 or RSA of 2048 bits or more, and with SHA-256 or SHA-384";
    }
    let webpki = match refused {
        CertificateError::Other(OtherError(inner)) => inner.downcast_ref(),
        _ => None,
    };
    match webpki {
        Some(webpki::Error::CaUsedAsEndEntity) if trust == Trust::Public => {
            "name this very certificate with --ca-file PATH, or its pin with --ca-pin sha256:HEX; or issue a certificate with CA:FALSE for the hub"
        }
        Some(webpki::Error::CaUsedAsEndEntity) => {
            "put this very certificate into the file of --ca-file, or pin its key; or issue a certificate with CA:FALSE for the hub"
        }
        Some(webpki::Error::UnsupportedCertVersion) => {
            "issue the hub's certificate with extensions (openssl x509 -req needs -extfile), and give a root of version 1 with --ca-file"
        }
        _ => {
            "issue another certificate for the hub; openssl s_client -connect HOST:PORT -showcerts prints the one that it sends"
        }
    }
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

const SAME_HOST: &str = "the proxy has the host name of the hub, so --ca-file and --ca-pin count for both: name the proxy by another of its names or addresses";
const NOT_IN_FILE: &str = "put the CA of the hub's chain, and the intermediate certificates that the server does not send, into the file of --ca-file, or pin that CA with --ca-pin; openssl s_client -connect HOST:PORT -showcerts prints the chain";
const OTHER_PIN: &str = "ask for the pin of the hub's CA again (monsys hubs print it when they start); with --ca-file, the pinned CA has to be in that file too";
const WRONG_NAME: &str = "set --hub-url to a name that the certificate is for, or issue a certificate for the hub that has this name too";

/// Lists the names of a certificate. Each comes as `DnsName("hub.example.com")` or `IpAddress(192.0.2.1)`; names
/// of other kinds do not matter.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name
            .strip_prefix("DnsName(\"")
            .and_then(|inner| inner.strip_suffix("\")"))
            .or_else(|| name.strip_prefix("IpAddress(")?.strip_suffix(')'))?;
        Some(inner.to_owned())
    };
    let names: Vec<_> = presented.iter().filter_map(bare).take(8).collect();
    if names.is_empty() {
        "no name".into()
    } else {
        names.join(", ")
    }
}

fn too_old(named: &str) -> SendError {
    let cause = format!(
        "the server supports neither TLS 1.2 nor TLS 1.3, and older versions are not safe{named}"
    );
    SendError::Final(
        Error::new(ErrorId::NotThisProtocol, cause).hint(
            "enable TLS 1.2 or 1.3 on the hub, or on the proxy or load balancer in front of it",
        ),
    )
}

/// Returns cause and hint of a certificate that is valid at another time. The host's clock may be wrong, so the
/// cause names both times.
fn out_of_time(certificate: &CertificateError) -> Option<(String, &'static str)> {
    let described = match certificate {
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
    Some(described)
}

const EXPIRED: &str = "renew the hub's certificate; or, if the clock is wrong: timedatectl set-ntp true, and run the same command again";
const CLOCK_IS_BEHIND: &str = "set this host's clock, and run the same command again: timedatectl set-ntp true, or: date -u -s 'YYYY-MM-DD HH:MM'";

fn shown(time: UnixTime) -> impl std::fmt::Display {
    clock::rfc3339(clock::of_1970(Duration::from_secs(time.as_secs())))
}

#[cfg(test)]
mod tests;
