//! Name resolution for every connection of the agent: IPv4 and IPv6 apart, so that a name server that fails for
//! one of them does not hide the other (RFC 4074 section 4, RFC 8305 section 3).
//!
//! getaddrinfo(3) sends the queries. `/etc/hosts` and the search list are read here, since musl splits a line of
//! more than 512 bytes, ignores the search list for a name with a dot, and gives up at its first error. The files
//! are those of the running system, also with `--root`, as for getaddrinfo(3) itself.

mod hosts;
mod order;
mod search;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dns_lookup::{AddrFamily, AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::timeout;

use crate::blocking;
use crate::store::safe_read;
pub use order::local_towards;

/// Largest `/etc/hosts`, in bytes. Lists of blocked names have a few megabytes.
const HOSTS_LIMIT: u64 = 16 * 1024 * 1024;
/// Longest pause for the IPv6 addresses when there are IPv4 addresses (RFC 8305 section 8, Resolution Delay).
const WAIT_FOR_IPV6: Duration = Duration::from_millis(50);
/// Longest pause for the IPv4 addresses when there are IPv6 addresses. It is longer, since a host often has an
/// IPv6 route that leads nowhere, and then needs the IPv4 addresses.
const WAIT_FOR_IPV4: Duration = Duration::from_secs(2);

/// The reason why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    /// A name server says that the name does not exist.
    Unknown,
    /// The name exists, and has neither IPv4 nor IPv6 addresses.
    NoAddress,
    /// No name server has given a usable answer.
    NoAnswer,
    /// Another error, in the words of the system.
    Other(String),
}

/// A name that was not resolved. The text names DNS, the name, and the reason.
#[derive(Debug)]
pub struct ResolveError {
    name: String,
    reason: Reason,
}

impl ResolveError {
    /// Returns the error of a name for which no name server has answered yet.
    #[must_use]
    pub fn pending(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            reason: Reason::NoAnswer,
        }
    }

    /// Returns the fix, with a command that asks the same question.
    #[must_use]
    pub fn hint(&self) -> String {
        format!(
            "check the name, and the name servers in /etc/resolv.conf: getent ahosts {}; then run the same command again",
            self.name
        )
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.reason {
            Reason::Unknown => write!(f, "DNS: the name {name} does not exist"),
            Reason::NoAddress => write!(f, "DNS: the name {name} has no address"),
            Reason::NoAnswer => {
                write!(f, "DNS: no name server gave a usable answer for {name}")
            }
            Reason::Other(words) => write!(f, "DNS: could not resolve {name}: {words}"),
        }
    }
}

impl std::error::Error for ResolveError {}

/// Resolves `name`, and returns its addresses, the preferred one first.
///
/// # Errors
/// [`ResolveError`].
pub async fn addresses(name: &str) -> Result<Vec<IpAddr>, ResolveError> {
    let hosts = safe_read::large(Path::new("/etc/hosts"), HOSTS_LIMIT).unwrap_or_default();
    let found = hosts::addresses(&hosts, name);
    drop(hosts);
    if !found.is_empty() {
        return Ok(order::preferred_first(found));
    }
    let resolv_conf = safe_read::bytes(Path::new("/etc/resolv.conf")).unwrap_or_default();
    let own_name = nix::unistd::gethostname().unwrap_or_default();
    let own_name = own_name.to_string_lossy();
    let mut reason = Reason::Unknown;
    for candidate in search::candidates(name, &String::from_utf8_lossy(&resolv_conf), &own_name) {
        match both_families(&candidate).await {
            Ok(found) => return Ok(order::preferred_first(found)),
            Err(other) => reason = graver(reason, other),
        }
    }
    let name = name.to_owned();
    Err(ResolveError { name, reason })
}

/// Resolves a name into IPv4 and IPv6 addresses. One of them is enough.
async fn both_families(name: &str) -> Result<Vec<IpAddr>, Reason> {
    let mut ipv4 = pin!(one_family(name.to_owned(), AddrFamily::Inet));
    let mut ipv6 = pin!(one_family(name.to_owned(), AddrFamily::Inet6));
    let (first, second) = tokio::select! {
        first = &mut ipv4 => {
            let second = within(WAIT_FOR_IPV6, &first, ipv6).await;
            (first, second)
        }
        first = &mut ipv6 => {
            let second = within(WAIT_FOR_IPV4, &first, ipv4).await;
            (first, second)
        }
    };
    match (first, second) {
        (Ok(first), Ok(second)) => Ok([first, second].concat()),
        (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
        (Err(first), Err(second)) => Err(graver(first, second)),
    }
}

/// Waits for the second answer: for `pause` when the first one has addresses that this host can reach, and
/// otherwise to its end.
async fn within(
    pause: Duration,
    first: &Result<Vec<IpAddr>, Reason>,
    second: impl Future<Output = Result<Vec<IpAddr>, Reason>>,
) -> Result<Vec<IpAddr>, Reason> {
    let is_enough = first
        .as_ref()
        .is_ok_and(|found| found.iter().any(|address| order::is_routed(*address)));
    if is_enough {
        timeout(pause, second)
            .await
            .unwrap_or(Err(Reason::NoAnswer))
    } else {
        second.await
    }
}

/// Queries the name servers for one family, in a thread: getaddrinfo(3) blocks.
async fn one_family(name: String, family: AddrFamily) -> Result<Vec<IpAddr>, Reason> {
    let query = move || {
        let hints = AddrInfoHints {
            address: family.into(),
            socktype: SockType::Stream.into(),
            ..AddrInfoHints::default()
        };
        let found = getaddrinfo(Some(&name), None, Some(hints)).map_err(reason)?;
        let found = found.map(|one| one.map(|one| one.sockaddr.ip()));
        found
            .collect::<io::Result<Vec<_>>>()
            .map_err(|error| Reason::Other(error.to_string()))
    };
    let found = blocking::run(query).await;
    found.unwrap_or_else(|error| Err(Reason::Other(error.to_string())))
}

fn reason(error: LookupError) -> Reason {
    match error.kind() {
        LookupErrorKind::NoName => Reason::Unknown,
        LookupErrorKind::NoData => Reason::NoAddress,
        LookupErrorKind::Again => Reason::NoAnswer,
        _ => Reason::Other(io::Error::from(error).to_string()),
    }
}

/// Returns the reason that says more: a name server that fails may know the name, and a name without an IPv6
/// address exists.
fn graver(one: Reason, other: Reason) -> Reason {
    let weight = |reason: &Reason| match reason {
        Reason::Unknown => 0,
        Reason::NoAddress => 1,
        Reason::Other(_) => 2,
        Reason::NoAnswer => 3,
    };
    if weight(&other) > weight(&one) {
        other
    } else {
        one
    }
}

/// The resolver of an HTTP client, which knows the name that it waits for.
#[derive(Clone, Default)]
pub(super) struct ClientResolver {
    pending: Arc<Mutex<Option<String>>>,
}

impl ClientResolver {
    /// Returns the error of the name that is not resolved yet. A request that ends while a name is pending was
    /// waiting for the name servers.
    pub(super) fn pending(&self) -> Option<ResolveError> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.as_deref().map(ResolveError::pending)
    }

    /// Sets the name that is pending. A cancelled resolution leaves its name, so each request begins with `None`.
    pub(super) fn set_pending(&self, name: Option<String>) {
        *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }
}

impl Resolve for ClientResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let name = name.as_str();
            resolver.set_pending(Some(name.to_owned()));
            let found = addresses(name).await;
            resolver.set_pending(None);
            let found = order::for_connections(found?);
            let sockets = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(sockets) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_one_that_leaves_hope() {
        for (one, other, expected) in [
            (Reason::Unknown, Reason::NoAnswer, Reason::NoAnswer),
            (Reason::NoAnswer, Reason::Unknown, Reason::NoAnswer),
            (Reason::Unknown, Reason::NoAddress, Reason::NoAddress),
            (Reason::Unknown, Reason::Unknown, Reason::Unknown),
        ] {
            assert_eq!(graver(one, other), expected);
        }
    }

    #[test]
    fn every_reason_names_dns_and_the_name() {
        for reason in [
            Reason::Unknown,
            Reason::NoAddress,
            Reason::NoAnswer,
            Reason::Other("a system error".into()),
        ] {
            let name = "hub.test".to_owned();
            let text = ResolveError { name, reason }.to_string();
            assert!(
                text.starts_with("DNS: ") && text.contains("hub.test"),
                "{text}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_answer_is_not_waited_for_when_the_first_is_enough() {
        let loopback = || Ok(vec![IpAddr::from([127, 0, 0, 1])]);
        let never = std::future::pending();
        assert_eq!(
            within(WAIT_FOR_IPV6, &loopback(), never).await,
            Err(Reason::NoAnswer)
        );
        let late = async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            loopback()
        };
        let unknown = Err(Reason::Unknown);
        assert_eq!(within(WAIT_FOR_IPV6, &unknown, late).await, loopback());
    }
}
