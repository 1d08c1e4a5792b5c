//! The class of each response: the table of HTTP statuses (contract, the table of answers).

use super::client::{Reply, SendError};
use super::reply::quoted;
use crate::error::{Error, ErrorId};

/// The meaning of an HTTP status for the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseClass {
    /// Accepted: the workflow goes on.
    Accepted,
    /// Stops: the request is wrong, or the status is unknown.
    Refused,
    /// Stops: one of the five causes of a 401.
    Rejected,
    /// Stops: the token was used up at this moment, or another key is pinned.
    Forbidden,
    /// Stops: the response is not from a hub.
    NotThisProtocol,
    /// Temporary failure: the agent tries again.
    Wait,
}

impl ResponseClass {
    /// Classifies a status.
    #[must_use]
    pub const fn of(status: u16) -> Self {
        match status {
            200 | 201 => Self::Accepted,
            401 => Self::Rejected,
            403 => Self::Forbidden,
            // A redirect is not followed. A captive portal answers 511 (RFC 6585, section 6).
            300..=399 | 511 => Self::NotThisProtocol,
            // The server does not have the method, or the version of HTTP: it will not have it later.
            501 | 505 => Self::Refused,
            // An unknown status has the meaning of the first one of its class (RFC 9110, section 15).
            408 | 425 | 429 | 500..=599 => Self::Wait,
            _ => Self::Refused,
        }
    }
}

/// The result of one try.
#[derive(Debug)]
pub enum Outcome<T> {
    /// The hub accepted the request.
    Done(T),
    /// The request failed, and a retry would fail too.
    Stop(Error),
    /// The request failed, and a retry may succeed.
    Wait {
        /// The failure, for the log. The run ends with it at the deadline.
        error: Error,
        /// Pause that the hub requested.
        retry_after: Option<std::time::Duration>,
    },
}

/// Classifies one try. `accepted` reads the body of an accepted request.
pub fn classify<T>(
    url: &str,
    sent: Result<Reply, SendError>,
    accepted: impl FnOnce(&Reply) -> Result<T, String>,
) -> Outcome<T> {
    classify_by(url, sent, ResponseClass::of, accepted)
}

/// Classifies one try of a request that the hub accepts with `204 No Content`. A page that comes with 200
/// is not from a hub.
#[must_use]
pub fn classify_empty(url: &str, sent: Result<Reply, SendError>) -> Outcome<()> {
    let class = |status| match status {
        204 => ResponseClass::Accepted,
        200 | 201 => ResponseClass::NotThisProtocol,
        _ => ResponseClass::of(status),
    };
    classify_by(url, sent, class, |_| Ok(()))
}

/// Classifies one try of a request with the host's own credential. Only a hub knows that credential, so a 401
/// or 404 counts only when the hub itself says in JSON that it does not know the agent. Any other 401 or 404
/// comes from an ingress or a proxy, and the agent tries again (contract, section 4).
pub fn classify_own<T>(
    url: &str,
    sent: Result<Reply, SendError>,
    accepted: impl FnOnce(&Reply) -> Result<T, String>,
) -> Outcome<T> {
    match unknown_credential(url, &sent) {
        Some(outcome) => outcome,
        None => classify(url, sent, accepted),
    }
}

/// Classifies one try as [`classify_own`] does, of a request that the hub accepts with `204 No Content`.
#[must_use]
pub fn classify_own_empty(url: &str, sent: Result<Reply, SendError>) -> Outcome<()> {
    match unknown_credential(url, &sent) {
        Some(outcome) => outcome,
        None => classify_empty(url, sent),
    }
}

/// Returns the outcome of a 401 or 404 to the host's own credential, or `None` for any other response.
fn unknown_credential<T>(url: &str, sent: &Result<Reply, SendError>) -> Option<Outcome<T>> {
    let reply = sent.as_ref().ok()?;
    if !matches!(reply.status, 401 | 404) {
        return None;
    }
    let seen = format!("HTTP {}", status_line(reply.status));
    let code = reply.error_code();
    Some(match (reply.status, code.as_deref()) {
        (401, Some("unauthorized")) | (404, Some("unknown_agent")) => {
            let code = code.unwrap_or_default();
            let cause = format!("{seen}, `{code}`, to the host's own credential");
            Outcome::Stop(Error::new(ErrorId::Forgotten, cause).about(url))
        }
        _ => Outcome::Wait {
            error: Error::new(
                ErrorId::Unreachable,
                format!("{seen}, and not in the form in which a hub answers{}", hub_says(reply)),
            )
            .about(url)
            .hint("check the proxy, load balancer or ingress in front of the hub: it answers in place of the hub"),
            retry_after: reply.retry_after,
        },
    })
}

/// Classifies one try by the table of statuses `class`.
pub fn classify_by<T>(
    url: &str,
    sent: Result<Reply, SendError>,
    class: impl FnOnce(u16) -> ResponseClass,
    accepted: impl FnOnce(&Reply) -> Result<T, String>,
) -> Outcome<T> {
    let reply = match sent {
        Ok(reply) => reply,
        Err(SendError::Transient(error)) => {
            return Outcome::Wait {
                error: error.about(url),
                retry_after: None,
            };
        }
        Err(SendError::Final(error)) => return Outcome::Stop(error.about(url)),
    };
    let status = reply.status;
    match class(status) {
        ResponseClass::Accepted => match accepted(&reply) {
            Ok(value) => Outcome::Done(value),
            Err(cause) => Outcome::Stop(Error::new(ErrorId::NotThisProtocol, cause).about(url)),
        },
        ResponseClass::Wait => Outcome::Wait {
            error: waiting(url, &reply),
            retry_after: reply.retry_after,
        },
        ResponseClass::Refused => Outcome::Stop(refused(url, &reply)),
        ResponseClass::NotThisProtocol => Outcome::Stop(not_our_protocol(url, &reply)),
        ResponseClass::Rejected => Outcome::Stop(rejected(url, &reply)),
        ResponseClass::Forbidden => Outcome::Stop(forbidden(url, &reply)),
    }
}

/// Returns the error of a temporary failure. The run ends with it when no other response comes before the
/// deadline.
fn waiting(url: &str, reply: &Reply) -> Error {
    let status = reply.status;
    let by = match reqwest::StatusCode::from_u16(status) {
        Ok(known) if known.canonical_reason().is_some() => "",
        _ => {
            " (not a registered status: a CDN or proxy sends such a status when it does not reach the hub)"
        }
    };
    let seen = format!("HTTP {}{by}{}", status_line(status), hub_says(reply));
    let error = Error::new(ErrorId::Unreachable, seen).about(url);
    if reply.is_page() {
        return error.hint("check that the hub runs, and which server answers in its place, then run the same command again: no use is spent twice");
    }
    error.hint(match status {
        429 => "the hub, or a proxy in front of it, limits the requests: wait, or give --wait a longer time, then run the same command again: no use is spent twice",
        _ => "read in the log of the hub, and of the proxy or load balancer in front of it, why it fails, then run the same command again: no use is spent twice",
    })
}

fn refused(url: &str, reply: &Reply) -> Error {
    let cause = format!(
        "the hub answered HTTP {}{}",
        status_line(reply.status),
        hub_says(reply)
    );
    let error = Error::new(ErrorId::Refused, cause).about(url);
    match reply.status {
        404 | 405 | 410 => error.hint("check the hub's URL: that address does not accept enrolments (is a part of the path missing, or is it another service?)"),
        413 => error.hint("raise the limit on the size of a request, of the hub or of the proxy or load balancer in front of it, to at least 64 KiB"),
        421 => error.hint("check the hub's URL: the server at that address does not serve that name (the virtual hosts of the proxy or load balancer in front of the hub decide)"),
        _ if reply.is_page() => error.hint(PROXY_LOG),
        _ => error,
    }
}

fn not_our_protocol(url: &str, reply: &Reply) -> Error {
    let cause = match &reply.location {
        Some(location) => format!(
            "HTTP {} sends the agent to {}, and redirects are not followed",
            reply.status,
            quoted(location)
        ),
        None if reply.status < 300 => format!(
            "HTTP {}, but a hub accepts this request with 204{}",
            status_line(reply.status),
            hub_says(reply)
        ),
        None => format!("HTTP {}", status_line(reply.status)),
    };
    Error::new(ErrorId::NotThisProtocol, cause).about(url)
}

fn rejected(url: &str, reply: &Reply) -> Error {
    // The hub's own 401 never differs. Another text comes from a server in front of the hub.
    let says = match reply.error_code().as_deref() {
        Some("unauthorized") => String::new(),
        _ => hub_says(reply),
    };
    let error = Error::new(
        ErrorId::Rejected,
        format!(
            "the hub answered 401, and never says which of these it is: the token is unknown, expired, revoked, or used up, or this host's source address is not among its allowed CIDRs{says}"
        ),
    );
    hint_of_page(error.about(url), reply)
}

/// Returns the error with the hint to look where an HTML page came from: no operator of the hub knows its cause.
fn hint_of_page(error: Error, reply: &Reply) -> Error {
    if reply.is_page() {
        return error.hint(PROXY_LOG);
    }
    error
}

fn forbidden(url: &str, reply: &Reply) -> Error {
    if reply.has_code("secret_exhausted") {
        return Error::new(
            ErrorId::Forbidden,
            "the hub answered 403 `secret_exhausted`: the token was used up at this moment",
        )
        .about(url)
        .hint("mint a new token, or one with more uses, and run the same command with it");
    }
    if reply.error_code().as_deref() == Some("signature_invalid") {
        return Error::new(
            ErrorId::OtherKey,
            "the hub answered 403 `signature_invalid`: another signing key is pinned for this agent",
        )
        .about(url);
    }
    let error = Error::new(
        ErrorId::Forbidden,
        format!("the hub answered HTTP 403{}", hub_says(reply)),
    );
    hint_of_page(error.about(url), reply)
}

const PROXY_LOG: &str = "read in the log of the proxy or load balancer why it refuses the request";

fn status_line(status: u16) -> String {
    match reqwest::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
    {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    }
}

/// Returns the hub's message for an error: shortened, quoted and without tokens, as a text from outside.
#[must_use]
pub fn hub_says(reply: &Reply) -> String {
    if let Some(coding) = &reply.coding {
        return format!(
            "; its text is encoded with {}, and the agent asked for `identity`",
            quoted(coding)
        );
    }
    if reply.is_page() {
        return "; it came with an HTML page, so a proxy or load balancer answers in place of the hub"
            .into();
    }
    match reply.message() {
        Some(message) => format!("; it says: {}", quoted(&message)),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_contracts() {
        for (statuses, class) in [
            (&[200_u16, 201][..], ResponseClass::Accepted),
            (&[400, 404, 409, 413, 415, 422], ResponseClass::Refused),
            (&[401], ResponseClass::Rejected),
            (&[403], ResponseClass::Forbidden),
            (
                &[408, 425, 429, 500, 502, 503, 504, 506, 507, 508, 510],
                ResponseClass::Wait,
            ),
            // Statuses of CDNs and proxies, which no standard has.
            (
                &[520, 521, 522, 525, 527, 529, 530, 598, 599],
                ResponseClass::Wait,
            ),
            (
                &[301, 302, 303, 307, 308, 511],
                ResponseClass::NotThisProtocol,
            ),
            (
                &[204, 402, 405, 410, 418, 421, 460, 501, 505],
                ResponseClass::Refused,
            ),
        ] {
            for status in statuses {
                assert_eq!(ResponseClass::of(*status), class, "{status}");
            }
        }
    }
}
