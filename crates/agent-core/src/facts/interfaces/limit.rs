//! The limits of a list of interfaces that a hub takes. Nothing that a host has fails its enrolment.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Interface;

/// Most interfaces in one request (docs/openapi.yaml).
const MOST: usize = 4096;
/// Most bytes of JSON for all interfaces. A request has 1 MiB at most, and 64 KiB are left for all else.
const MOST_BYTES: usize = (1 << 20) - (64 << 10);
/// Bytes of JSON for an interface with empty texts and one digit for each number.
const LEAST_BYTES: usize = 190;

/// Returns the interfaces that fit into one request, in their order. The ones that say the most about the
/// host have precedence: the interface with the primary address, then those with an address that other hosts
/// can use, then those with a device.
pub(in crate::facts) fn limited(mut all: Vec<Interface>) -> Vec<Interface> {
    if all.len() <= MOST && all.iter().map(size).sum::<usize>() <= MOST_BYTES {
        return all;
    }
    let ranks: Vec<u8> = all.iter().map(rank).collect();
    let ranks = ranks.as_slice();
    let of = |rank| (0..ranks.len()).filter(move |at| ranks[*at] == rank);
    let mut room = MOST_BYTES;
    let mut chosen = BTreeSet::new();
    for at in (0..RANKS).flat_map(of).take(MOST) {
        let interface = &mut all[at];
        let most = room.saturating_sub(bare_size(interface));
        shorten(&mut interface.addresses, most);
        let size = size(interface);
        if size > room {
            break;
        }
        room -= size;
        chosen.insert(at);
    }
    let mut at = 0..;
    all.retain(|_| at.next().is_some_and(|at| chosen.contains(&at)));
    all
}

/// Number of the results of [`rank`].
const RANKS: u8 = 16;

/// Returns the place of an interface in the order of precedence, below [`RANKS`].
fn rank(interface: &Interface) -> u8 {
    let has_global = interface.addresses.iter().any(is_global);
    let lacks = [
        !interface.is_management,
        !has_global,
        interface.is_virtual,
        !interface.is_up,
    ];
    lacks
        .into_iter()
        .fold(0, |rank, lacks| rank << 1 | u8::from(lacks))
}

/// Returns whether other hosts may use the address.
fn is_global(ip: &IpAddr) -> bool {
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !ip.is_loopback() && !is_link_local && !ip.is_unspecified()
}

/// Removes the addresses that do not fit into `room` bytes. Those that other hosts can use come first.
fn shorten(addresses: &mut Vec<IpAddr>, room: usize) {
    if addresses.iter().map(address_size).sum::<usize>() <= room {
        return;
    }
    let (mut first, others): (Vec<_>, Vec<_>) = addresses.drain(..).partition(is_global);
    first.extend(others);
    *addresses = first;
    let mut used = 0;
    addresses.retain(|ip| {
        used += address_size(ip);
        used <= room
    });
}

/// Returns the bytes of JSON for an interface, or a few more.
fn size(interface: &Interface) -> usize {
    bare_size(interface) + interface.addresses.iter().map(address_size).sum::<usize>()
}

fn bare_size(interface: &Interface) -> usize {
    let digits = |number: u64| number.checked_ilog10().unwrap_or_default() as usize;
    // A character is six bytes as an escape.
    let name = interface.name.chars().map(|character| match character {
        ' '..='~' if !matches!(character, '"' | '\\') => 1,
        _ => 12,
    });
    LEAST_BYTES
        + name.sum::<usize>()
        + interface.mac.as_ref().map_or(4, |mac| mac.len() + 2)
        + digits(interface.bytes_sent)
        + digits(interface.bytes_recv)
}

/// Returns the bytes of JSON for an address, with its quotes and its comma.
fn address_size(ip: &IpAddr) -> usize {
    ip.to_string().len() + 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: String, addresses: &[&str]) -> Interface {
        Interface {
            name,
            mac: Some("02:42:00:00:00:01".into()),
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            is_virtual: true,
            bytes_sent: u64::MAX,
            bytes_recv: u64::MAX,
            ..Interface::default()
        }
    }

    #[test]
    fn the_interfaces_that_say_the_most_stay() {
        let mut all: Vec<Interface> = (0..6000)
            .map(|at| interface(format!("br{at:05}"), &["fe80::1"]))
            .collect();
        all.push(interface("zz0".into(), &["10.0.0.1"]));
        all.push(Interface {
            is_management: true,
            ..interface("zz1".into(), &["10.0.0.2"])
        });
        all.push(Interface {
            is_virtual: false,
            ..interface("zz2".into(), &[])
        });
        let left = limited(all);
        assert!(left.len() <= MOST && left.len() > 3500, "{}", left.len());
        assert!(left.iter().map(size).sum::<usize>() <= MOST_BYTES);
        let names: Vec<&str> = left.iter().map(|it| it.name.as_str()).collect();
        assert!(names.is_sorted(), "the order changed");
        assert!(
            names.ends_with(&["zz0", "zz1", "zz2"]),
            "{:?}",
            names.last()
        );
    }

    #[test]
    fn addresses_that_do_not_fit_are_removed() {
        let addresses =
            (0..100_000_u32).map(|at| IpAddr::V4(std::net::Ipv4Addr::from(0xa000_0000 + at)));
        let mut one = interface("eth0".into(), &["fe80::1"]);
        one.addresses.extend(addresses);
        one.is_management = true;
        let left = limited(vec![one.clone(), interface("eth1".into(), &[])]);
        assert_eq!(left[0].name, "eth0");
        assert!(left[0].addresses.len() > 50_000);
        assert!(!left[0].addresses.contains(&"fe80::1".parse().unwrap()));
        assert!(left.iter().map(size).sum::<usize>() <= MOST_BYTES);
    }

    #[test]
    fn a_list_that_fits_stays_as_it_is() {
        let all = vec![
            interface("b".into(), &["fe80::1"]),
            interface("a".into(), &[]),
        ];
        assert_eq!(limited(all.clone()), all);
    }
}
