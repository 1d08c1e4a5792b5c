//! Links and addresses as the kernel reports them.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;

use super::labels::Labelled;

/// The types of interfaces whose hardware address is the IP address of a tunnel's end (`linux/if_arp.h`):
/// `ARPHRD_TUNNEL`, `ARPHRD_TUNNEL6`, `ARPHRD_SIT`, `ARPHRD_IPGRE` and `ARPHRD_IP6GRE`.
const IP_TUNNELS: [u16; 5] = [768, 769, 776, 778, 823];

/// The network as the kernel reports it in one netlink dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::facts) struct Network {
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<Address>,
}

/// An interface, with or without addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) hardware: Hardware,
    pub(super) is_loopback: bool,
    pub(super) is_up: bool,
}

/// A hardware address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hardware {
    None,
    Mac([u8; 6]),
    /// An address that is longer than `getifaddrs` returns, such as `InfiniBand`'s. sysfs has all of it.
    Other,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The interface, or the label of the address: see [`Network::device`].
    pub(super) interface: String,
    pub(super) ip: IpAddr,
}

impl Network {
    /// Reads the present network. Returns an empty one when the kernel does not report it.
    pub(in crate::facts) fn now() -> Self {
        let mut network = Self::default();
        for reported in getifaddrs().into_iter().flatten() {
            network.add(reported);
        }
        network.resolve_labels();
        network
    }

    /// Replaces each label by the name of its interface.
    fn resolve_labels(&mut self) {
        let names: HashSet<&str> = self.links.iter().map(|link| link.name.as_str()).collect();
        let is_label = |address: &Address| !names.contains(address.interface.as_str());
        if names.is_empty() || !self.addresses.iter().any(is_label) {
            return;
        }
        let Some(all) = Labelled::all() else {
            return;
        };
        for address in self
            .addresses
            .iter_mut()
            .filter(|address| is_label(address))
        {
            if let Some(name) = Labelled::interface(&all, &address.interface, address.ip) {
                address.interface = name;
            }
        }
    }

    fn add(&mut self, reported: InterfaceAddress) {
        let ip = reported.address.as_ref().and_then(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        });
        if let Some(ip) = ip {
            self.addresses.push(Address {
                interface: reported.interface_name,
                ip,
            });
            return;
        }
        let link = reported.address.as_ref().and_then(|a| a.as_link_addr());
        self.links.push(Link {
            name: reported.interface_name,
            hardware: link.map_or(Hardware::None, |link| {
                Hardware::of(link.hatype(), link.halen(), link.addr())
            }),
            is_loopback: reported.flags.contains(InterfaceFlags::IFF_LOOPBACK),
            is_up: reported.flags.contains(InterfaceFlags::IFF_UP),
        });
    }

    /// Returns the interface with an address of the label `label`, if the kernel does not report it. A label usually
    /// is the name of the interface, or begins with it (ip-address(8)), as in `eth0:1`.
    pub(super) fn device<'a>(names: &BTreeSet<&str>, label: &'a str) -> &'a str {
        if names.contains(label) {
            return label;
        }
        // The name of an interface never has a colon.
        let before = label.split(':').next().unwrap_or(label);
        let begins = (1..=before.len()).rev().filter_map(|end| before.get(..end));
        let known = begins.into_iter().find(|begin| names.contains(begin));
        known.unwrap_or(before)
    }
}

impl Hardware {
    /// Returns the hardware address of an interface of the type `hatype` (`ARPHRD_…`), of `length` bytes.
    fn of(hatype: u16, length: usize, mac: Option<[u8; 6]>) -> Self {
        match (length, mac) {
            (0, _) => Self::None,
            _ if IP_TUNNELS.contains(&hatype) => Self::None,
            (6, Some(mac)) => Self::Mac(mac),
            (6, None) => Self::Mac([0; 6]),
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are those of a kernel with each tunnel.
    #[test]
    fn the_address_of_a_tunnel_is_not_a_hardware_address() {
        let ip = Some([192, 168, 119, 224, 0, 0]);
        for (hatype, length) in [(768, 4), (769, 16), (776, 4), (778, 4), (823, 16)] {
            assert_eq!(Hardware::of(hatype, length, ip), Hardware::None, "{hatype}");
        }
        let mac = [2, 0x42, 0, 0, 0, 1];
        // Ethernet (a GRE tap too), Wi-Fi, WireGuard, and InfiniBand.
        assert_eq!(Hardware::of(1, 6, Some(mac)), Hardware::Mac(mac));
        assert_eq!(Hardware::of(801, 6, Some(mac)), Hardware::Mac(mac));
        assert_eq!(Hardware::of(65534, 0, None), Hardware::None);
        assert_eq!(Hardware::of(32, 20, Some(mac)), Hardware::Other);
    }

    #[test]
    fn a_label_belongs_to_the_interface_that_it_begins_with() {
        let names = BTreeSet::from(["eth0", "eth0.1", "br-é"]);
        for (label, device) in [
            ("eth0", "eth0"),
            ("eth0:1", "eth0"),
            ("eth0.1:vip", "eth0.1"),
            ("eth0vip", "eth0"),
            ("br-é:1", "br-é"),
            ("ppp0:1", "ppp0"),
            ("ppp0", "ppp0"),
            ("", ""),
        ] {
            assert_eq!(Network::device(&names, label), device, "{label}");
        }
    }
}
