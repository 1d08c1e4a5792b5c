//! The order of the addresses of a name: which family is tried first, and how soon the next address is tried.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Puts the family first that this host reaches, and then alternates (RFC 8305 section 4). Of two families, that
/// is IPv6, but for unique local addresses (RFC 6724 section 2.1). Within a family, the order is the resolver's.
pub(super) fn preferred_first(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    by_family(addresses, is_routed)
}

fn by_family(addresses: Vec<IpAddr>, is_routed: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let (ipv6, ipv4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let is_ipv6_first = match (ipv6.first(), ipv4.first()) {
        (Some(six), Some(four)) => {
            let is_local = matches!(six, IpAddr::V6(six) if six.is_unique_local());
            is_routed(*six) && !(is_local && is_routed(*four))
        }
        _ => true,
    };
    let (first, second) = if is_ipv6_first {
        (ipv6, ipv4)
    } else {
        (ipv4, ipv6)
    };
    let longest = first.len().max(second.len());
    (0..longest)
        .flat_map(|n| [first.get(n), second.get(n)])
        .flatten()
        .copied()
        .collect()
}

/// Arranges addresses for hyper, so that a dead first address costs little.
///
/// hyper tries the addresses of a family one after another, and divides the time limit among them. After 300 ms it
/// tries the addresses of the other family beside them. That second list begins at the other end here: the last
/// address of a name is seldom the same machine as its first. A name with IPv4 addresses alone has no other
/// family, so its second list holds the same addresses in their IPv6 form (RFC 4291 section 2.5.5.2), for which
/// Linux opens IPv4 connections. IPv6 has no such form: its addresses are tried twice, each for half the time.
pub(super) fn for_connections(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let is_ipv6_first = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, mut second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == is_ipv6_first);
    if second.is_empty() && first.len() > 1 {
        let mapped = first.iter().map(|address| match address {
            IpAddr::V4(four) => IpAddr::V6(four.to_ipv6_mapped()),
            IpAddr::V6(_) => *address,
        });
        second = mapped.collect();
        if is_ipv6_first {
            return [first, second].concat();
        }
    }
    second.reverse();
    [first, second].concat()
}

/// Returns whether this host has a route to the address.
pub(super) fn is_routed(address: IpAddr) -> bool {
    // Any port: no packet is sent.
    local_towards(SocketAddr::new(address, 443)).is_some()
}

/// Returns this host's address on the route to `target`. connect(2) on a UDP socket queries the kernel's routing
/// table and sends no packet.
#[must_use]
pub fn local_towards(target: SocketAddr) -> Option<IpAddr> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(addresses: &[&str]) -> Vec<IpAddr> {
        addresses.iter().map(|a| a.parse().unwrap()).collect()
    }

    #[test]
    fn the_family_that_is_reached_comes_first_and_then_they_alternate() {
        let all = [
            "192.0.2.1",
            "192.0.2.2",
            "192.0.2.3",
            "2001:db8::1",
            "2001:db8::2",
        ];
        let ipv6_first = [
            "2001:db8::1",
            "192.0.2.1",
            "2001:db8::2",
            "192.0.2.2",
            "192.0.2.3",
        ];
        let ipv4_first = [
            "192.0.2.1",
            "2001:db8::1",
            "192.0.2.2",
            "2001:db8::2",
            "192.0.2.3",
        ];
        assert_eq!(by_family(parsed(&all), |_| true), parsed(&ipv6_first));
        let four_only = |address: IpAddr| address.is_ipv4();
        assert_eq!(by_family(parsed(&all), four_only), parsed(&ipv4_first));
        let six_only = |address: IpAddr| address.is_ipv6();
        assert_eq!(by_family(parsed(&all), six_only), parsed(&ipv6_first));
    }

    #[test]
    fn a_unique_local_address_comes_after_ipv4_where_both_are_reached() {
        let both = ["fd00::1", "192.0.2.1"];
        assert_eq!(
            by_family(parsed(&both), |_| true),
            parsed(&["192.0.2.1", "fd00::1"])
        );
        let six_only = |address: IpAddr| address.is_ipv6();
        assert_eq!(by_family(parsed(&both), six_only), parsed(&both));
    }

    #[test]
    fn the_second_list_begins_with_another_address() {
        for (given, expected) in [
            (&["192.0.2.1"][..], &["192.0.2.1"][..]),
            (
                &["192.0.2.1", "192.0.2.2"],
                &[
                    "192.0.2.1",
                    "192.0.2.2",
                    "::ffff:192.0.2.2",
                    "::ffff:192.0.2.1",
                ],
            ),
            (
                &["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"],
                &["2001:db8::1", "2001:db8::2", "192.0.2.2", "192.0.2.1"],
            ),
            (
                &["2001:db8::1", "2001:db8::2"],
                &["2001:db8::1", "2001:db8::2", "2001:db8::1", "2001:db8::2"],
            ),
            (&[], &[]),
        ] {
            assert_eq!(for_connections(parsed(given)), parsed(expected));
        }
    }
}
