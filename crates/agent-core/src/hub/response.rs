//! What an answer means: the one table of statuses (contract, "answer, verdict, agent does").

use super::client::{Reply, SendError};
use crate::error::{Error, ErrorId};
use crate::redact::redact;

/// What a status means for the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseClass {
    /// Goes on.
    Accepted,
    /// Stops: the request is at fault, or the status is unknown.
    Refused,
    /// Stops: one of the five causes of a 401.
    Rejected,
    /// Stops: used up in this moment, or another key is pinned.
    Forbidden,
    /// Stops: something else than the hub answers.
    NotThisProtocol,
    /// Tries again.
    Wait,
}

impl ResponseClass {
    /// The table.
    #[must_use]
    pub const fn of(status: u16) -> Self {
        match status {
            200 | 201 => Self::Accepted,
            401 => Self::Rejected,
            403 => Self::Forbidden,
            408 | 425 | 429 | 500 | 502 | 503 | 504 => Self::Wait,
            // A redirect is not followed; 511 is a captive portal that says so (RFC 6585).
            300..=399 | 511 => Self::NotThisProtocol,
            _ => Self::Refused,
        }
    }
}

/// What one try came to.
#[derive(Debug)]
pub enum Outcome<T> {
    /// The hub said yes.
    Done(T),
    /// No retry will change it.
    Stop(Error),
    /// Worth another try.
    Wait {
        /// What was seen, for the log; and what the run ends with at the deadline.
        error: Error,
        /// How long the hub asked to wait.
        retry_after: Option<std::time::Duration>,
    },
}

/// Judges one try; `accepted` reads the body of a yes.
pub fn classify<T>(
    url: &str,
    sent: Result<Reply, SendError>,
    accepted: impl FnOnce(&Reply) -> Result<T, String>,
) -> Outcome<T> {
    classify_by(url, sent, ResponseClass::of, accepted)
}

/// Judges one try of a call whose yes is `204 No Content`. A page that comes with 200 is none.
#[must_use]
pub fn classify_empty(url: &str, sent: Result<Reply, SendError>) -> Outcome<()> {
    let class = |status| match status {
        204 => ResponseClass::Accepted,
        200 | 201 => ResponseClass::NotThisProtocol,
        _ => ResponseClass::of(status),
    };
    classify_by(url, sent, class, |_| Ok(()))
}

/// Judges one try by another table of statuses.
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
        ResponseClass::Rejected => Outcome::Stop(rejected(url)),
        ResponseClass::Forbidden => Outcome::Stop(forbidden(url, &reply)),
    }
}

/// What the run ends with when no other answer comes before the deadline.
fn waiting(url: &str, reply: &Reply) -> Error {
    let seen = format!("HTTP {}{}", status_line(reply.status), hub_says(reply));
    let error = Error::new(ErrorId::Unreachable, seen).about(url);
    if is_page(reply) {
        error.hint("check that the hub runs, and what answers in its place, then run the same command again: no use is spent twice")
    } else {
        error
    }
}

fn refused(url: &str, reply: &Reply) -> Error {
    let cause = format!(
        "the hub answered HTTP {}{}",
        status_line(reply.status),
        hub_says(reply)
    );
    let error = Error::new(ErrorId::Refused, cause).about(url);
    if reply.status == 404 {
        error.hint("check the hub's URL: nothing there takes enrolments (a path missing, or another service?)")
    } else if is_page(reply) {
        error.hint("see in the log of the proxy or load balancer what it refuses; a limit on the size of a request must leave room for 64 KiB")
    } else {
        error
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
            "HTTP {}, where the hub's yes is 204{}",
            status_line(reply.status),
            hub_says(reply)
        ),
        None => format!("HTTP {}", status_line(reply.status)),
    };
    Error::new(ErrorId::NotThisProtocol, cause).about(url)
}

fn rejected(url: &str) -> Error {
    Error::new(
        ErrorId::Rejected,
        "the hub answered 401, and never tells which of the five it is: the token is unknown, expired, revoked, or used up, or this host's source address is not among its allowed CIDRs",
    )
    .about(url)
}

fn forbidden(url: &str, reply: &Reply) -> Error {
    match reply.error_code().as_deref() {
        Some("secret_exhausted") => Error::new(
            ErrorId::Forbidden,
            "the hub answered 403 `secret_exhausted`: the token was used up in this very moment",
        )
        .about(url)
        .hint("mint a new token, or one with more uses, and run the same command with it"),
        Some("signature_invalid") => Error::new(
            ErrorId::OtherKey,
            "the hub answered 403 `signature_invalid`: another signing key is pinned for this agent",
        )
        .about(url),
        _ => Error::new(
            ErrorId::Forbidden,
            format!("the hub answered HTTP 403{}", hub_says(reply)),
        )
        .about(url),
    }
}

fn status_line(status: u16) -> String {
    match reqwest::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
    {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    }
}

/// The hub's own words, as what they are: text from outside, shortened, quoted, without tokens.
#[must_use]
pub fn hub_says(reply: &Reply) -> String {
    match reply.message() {
        Some(message) => format!("; it says: {}", quoted(&message)),
        None if is_page(reply) => {
            "; it came with an HTML page, so something before the hub answers (a proxy or load balancer)"
                .into()
        }
        None => String::new(),
    }
}

/// No hub answers with HTML.
fn is_page(reply: &Reply) -> bool {
    reply.media_type.as_deref() == Some("text/html")
}

fn quoted(text: &str) -> String {
    let short: String = text.chars().take(200).collect();
    format!("{:?}", redact(&short))
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
            (&[408, 425, 429, 500, 502, 503, 504], ResponseClass::Wait),
            (
                &[301, 302, 303, 307, 308, 511],
                ResponseClass::NotThisProtocol,
            ),
            (
                &[204, 402, 405, 410, 418, 501, 505, 599],
                ResponseClass::Refused,
            ),
        ] {
            for status in statuses {
                assert_eq!(ResponseClass::of(*status), class, "{status}");
            }
        }
    }
}
