//! The host's address on the route to the hub.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use if_addrs::Interface;

use crate::boxed::Boxed;
use crate::hub::resolver::{self, local_towards};
use crate::settings::Settings;

/// Time limit of the name resolution for the facts.
const RESOLVE: Duration = Duration::from_secs(2);

/// Well-known addresses behind the default route (contract, host facts). Only the routing table is queried
/// for them.
const ANYWHERE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)), 80),
    SocketAddr::new(
        IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888)),
        80,
    ),
];

/// The addresses of the hub, or of the proxy in front of it.
#[derive(Clone, Debug, Default)]
pub struct Target(Vec<SocketAddr>);

impl Target {
    /// The target of which no address is known.
    pub const UNKNOWN: Self = Self(Vec::new());

    /// Returns the target without name resolution: only a literal address is known.
    #[must_use]
    pub fn literal(settings: &Settings) -> Self {
        let (host, port) = peer(settings);
        match host.parse::<IpAddr>() {
            Ok(address) => Self(vec![SocketAddr::new(address, port)]),
            Err(_) => Self::default(),
        }
    }

    /// Resolves the hub's name, for two seconds at most: the facts have a fallback.
    #[must_use]
    pub fn resolve(settings: &Settings) -> Boxed<'_, Self> {
        Box::pin(async move {
            let literal = Self::literal(settings);
            if !literal.0.is_empty() {
                return literal;
            }
            let (host, port) = peer(settings);
            match tokio::time::timeout(RESOLVE, resolver::addresses(host)).await {
                Ok(Ok(found)) => Self(
                    found
                        .into_iter()
                        .map(|address| SocketAddr::new(address, port))
                        .collect(),
                ),
                _ => Self::default(),
            }
        })
    }
}

/// Returns the host and port that a connection to the hub goes to first.
#[must_use]
pub fn peer(settings: &Settings) -> (&str, u16) {
    match settings.proxy_in_use() {
        Some(proxy) => (
            proxy
                .value
                .url
                .host_str()
                .unwrap_or_default()
                .trim_matches(['[', ']']),
            proxy.value.url.port_or_known_default().unwrap_or(80),
        ),
        None => (settings.hub_url.value.host(), settings.hub_url.value.port()),
    }
}

/// Returns the source address of the first existing route: to the hub, then the default routes. Without a
/// route, returns the address of an interface.
///
/// Loopback addresses are left out: every host has them.
pub(super) fn primary_ip(target: &Target) -> Option<IpAddr> {
    target
        .0
        .iter()
        .chain(&ANYWHERE)
        .find_map(|target| source_towards(*target))
        .or_else(|| global_ip(&if_addrs::get_if_addrs().unwrap_or_default()))
}

/// Returns the first IPv4 address that other hosts can use, or else the first such IPv6 address.
fn global_ip(interfaces: &[Interface]) -> Option<IpAddr> {
    let addresses = interfaces
        .iter()
        .filter(|interface| !interface.is_loopback() && !interface.is_link_local())
        .map(Interface::ip)
        .filter(|ip| !ip.is_unspecified());
    addresses.min_by_key(IpAddr::is_ipv6)
}

/// Returns this host's address on the route to `target`, including loopback addresses.
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

#[cfg(test)]
mod tests {
    use if_addrs::{IfAddr, IfOperStatus, Ifv4Addr, Ifv6Addr};

    use super::*;

    #[test]
    fn loopback_addresses_are_left_out() {
        assert_eq!(source_towards("127.0.0.1:443".parse().unwrap()), None);
        assert_eq!(source_towards("[::1]:443".parse().unwrap()), None);
    }

    /// Interfaces with these addresses.
    fn interfaces(addresses: &[&str]) -> Vec<Interface> {
        let interface = |(number, ip): (usize, &&str)| Interface {
            name: format!("eth{number}"),
            addr: match ip.parse().unwrap() {
                IpAddr::V4(ip) => IfAddr::V4(Ifv4Addr {
                    ip,
                    netmask: Ipv4Addr::BROADCAST,
                    prefixlen: 32,
                    broadcast: None,
                }),
                IpAddr::V6(ip) => IfAddr::V6(Ifv6Addr {
                    ip,
                    netmask: Ipv6Addr::from([0xff; 16]),
                    prefixlen: 128,
                    broadcast: None,
                }),
            },
            index: None,
            oper_status: IfOperStatus::Up,
            is_p2p: false,
        };
        addresses.iter().enumerate().map(interface).collect()
    }

    #[test]
    fn without_a_route_the_first_global_address_is_taken_ipv4_before_ipv6() {
        for (addresses, expected) in [
            (
                &["127.0.0.1", "::1", "169.254.1.1", "fe80::1", "0.0.0.0"][..],
                None,
            ),
            (&["127.0.0.1", "10.0.0.1", "10.0.0.2"], Some("10.0.0.1")),
            (&["2001:db8::1", "fe80::1", "10.0.0.1"], Some("10.0.0.1")),
            (
                &["fe80::1", "2001:db8::1", "2001:db8::2"],
                Some("2001:db8::1"),
            ),
            (&[], None),
        ] {
            let expected = expected.map(|ip| ip.parse().unwrap());
            assert_eq!(global_ip(&interfaces(addresses)), expected, "{addresses:?}");
        }
    }
}
