//! The address by which this host reaches the hub. A UDP connect asks the kernel's routing table;
//! no packet is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::interfaces::Address;
use crate::settings::Settings;

/// Longest that name resolution may hold up the facts.
const RESOLVE: Duration = Duration::from_secs(2);

/// Well-known addresses behind the default route (contract, host facts). They are only looked up
/// in the routing table.
const ANYWHERE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)), 80),
    SocketAddr::new(
        IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888)),
        80,
    ),
];

/// Where the hub, or the proxy before it, is.
#[derive(Clone, Debug, Default)]
pub struct Target(Vec<SocketAddr>);

impl Target {
    /// Nothing is known of it.
    pub const UNKNOWN: Self = Self(Vec::new());

    /// Without asking any name server: only a literal address is known.
    #[must_use]
    pub fn literal(settings: &Settings) -> Self {
        let (host, port) = peer(settings);
        match host.parse::<IpAddr>() {
            Ok(address) => Self(vec![SocketAddr::new(address, port)]),
            Err(_) => Self::default(),
        }
    }

    /// With name resolution, which gets two seconds: the facts do without it.
    pub async fn resolve(settings: &Settings) -> Self {
        let literal = Self::literal(settings);
        if !literal.0.is_empty() {
            return literal;
        }
        let lookup = tokio::net::lookup_host(peer(settings));
        match tokio::time::timeout(RESOLVE, lookup).await {
            Ok(Ok(found)) => Self(found.collect()),
            _ => Self::default(),
        }
    }
}

/// Host and port that a connection to the hub goes to first.
#[must_use]
pub fn peer(settings: &Settings) -> (&str, u16) {
    match &settings.proxy {
        Some(proxy) if settings.hub_url.value.is_https() => (
            proxy
                .value
                .url
                .host_str()
                .unwrap_or_default()
                .trim_matches(['[', ']']),
            proxy.value.url.port_or_known_default().unwrap_or(80),
        ),
        _ => (settings.hub_url.value.host(), settings.hub_url.value.port()),
    }
}

/// The first that answers: the way to the hub, the default routes, a global address.
///
/// A loopback address is no answer: it would say nothing of the host.
pub(super) fn primary_ip(target: &Target, addresses: &[Address]) -> Option<IpAddr> {
    target
        .0
        .iter()
        .chain(&ANYWHERE)
        .find_map(|target| source_towards(*target))
        .or_else(|| {
            let global = |address: &&Address| is_global(address.ip);
            let mut candidates = addresses.iter().filter(global);
            candidates
                .clone()
                .find(|address| address.ip.is_ipv4())
                .or_else(|| candidates.next())
                .map(|address| address.ip)
        })
}

/// This host's address on the way to `target`, loopback included.
#[must_use]
pub fn source(target: &Target) -> Option<IpAddr> {
    target.0.iter().find_map(|target| local_towards(*target))
}

fn source_towards(target: SocketAddr) -> Option<IpAddr> {
    if target.ip().is_loopback() {
        return None;
    }
    local_towards(target).filter(|source| !source.is_loopback())
}

fn local_towards(target: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if target.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    let source = socket.local_addr().ok()?.ip().to_canonical();
    (!source.is_unspecified()).then_some(source)
}

fn is_global(ip: IpAddr) -> bool {
    let local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !local && !ip.is_loopback() && !ip.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_address_says_nothing_of_the_host() {
        assert_eq!(source_towards("127.0.0.1:443".parse().unwrap()), None);
        assert_eq!(source_towards("[::1]:443".parse().unwrap()), None);
    }

    #[test]
    fn link_local_and_loopback_are_not_global() {
        for (ip, global) in [
            ("10.0.0.1", true),
            ("169.254.1.1", false),
            ("127.0.0.1", false),
            ("fe80::1", false),
            ("2001:db8::1", true),
        ] {
            assert_eq!(is_global(ip.parse().unwrap()), global, "{ip}");
        }
    }
}
