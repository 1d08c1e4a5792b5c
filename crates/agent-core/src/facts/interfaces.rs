//! The host's network interfaces, as the kernel tells them. No packet is sent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;

use crate::environment::Environment;
use crate::store::safe_read;

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each told as it is"
)]
pub struct Interface {
    /// Name, such as `enp130s0f0`.
    pub name: String,
    /// Hardware address, if it has one.
    pub mac: Option<String>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
    /// Carries the primary address.
    pub is_management: bool,
    /// Is a loopback interface.
    pub is_loopback: bool,
    /// Has no device behind it in sysfs.
    pub is_virtual: bool,
    /// Is a wireless one.
    pub is_wireless: bool,
    /// Is administratively up.
    pub is_up: bool,
    /// Bytes sent since it came up.
    pub bytes_sent: u64,
    /// Bytes received since it came up.
    pub bytes_recv: u64,
}

/// What the kernel tells of its network in one conversation (netlink).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Network {
    links: Vec<Link>,
    addresses: Vec<Address>,
}

/// An interface, with addresses or without.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    name: String,
    hardware: Hardware,
    is_loopback: bool,
    is_up: bool,
}

/// A hardware address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hardware {
    None,
    Mac([u8; 6]),
    /// Longer than netlink's answer is kept here, such as `InfiniBand`'s: sysfs has it whole.
    Other,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    interface: String,
    ip: IpAddr,
}

impl Network {
    /// As it is now; empty where the kernel does not tell.
    pub(super) fn now() -> Self {
        let mut network = Self::default();
        for told in getifaddrs().into_iter().flatten() {
            network.add(told);
        }
        network
    }

    fn add(&mut self, told: InterfaceAddress) {
        let ip = told.address.as_ref().and_then(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        });
        if let Some(ip) = ip {
            self.addresses.push(Address {
                interface: told.interface_name,
                ip,
            });
            return;
        }
        let link = told.address.as_ref().and_then(|a| a.as_link_addr());
        self.links.push(Link {
            name: told.interface_name,
            hardware: match link.map(|link| (link.halen(), link.addr())) {
                None | Some((0, _)) => Hardware::None,
                Some((6, Some(mac))) => Hardware::Mac(mac),
                Some((6, None)) => Hardware::Mac([0; 6]),
                Some(_) => Hardware::Other,
            },
            is_loopback: told.flags.contains(InterfaceFlags::IFF_LOOPBACK),
            is_up: told.flags.contains(InterfaceFlags::IFF_UP),
        });
    }
}

/// All interfaces, by name. Netlink tells which there are; what is behind them is in sysfs, and what
/// went through them in `/proc/net/dev`, which has all of them in one file.
pub(super) fn list(
    environment: &Environment,
    network: Network,
    primary: Option<IpAddr>,
) -> Vec<Interface> {
    let sysfs = environment.kernel_path("/sys/class/net");
    let has_sysfs = sysfs.exists();
    let traffic = safe_read::kernel(&environment.kernel_path("/proc/net/dev")).unwrap_or_default();
    let mut interfaces: BTreeMap<String, Interface> = network
        .links
        .into_iter()
        .map(|link| {
            let interface = Interface::of(link, has_sysfs.then_some(&sysfs), &traffic);
            (interface.name.clone(), interface)
        })
        .collect();
    for address in network.addresses {
        let is_loopback = address.ip.is_loopback();
        let interface = interfaces
            .entry(address.interface)
            .or_insert_with_key(|name| Interface {
                name: name.clone(),
                is_loopback,
                is_virtual: is_loopback,
                is_up: true,
                ..Interface::default()
            });
        interface.is_management |= Some(address.ip) == primary;
        interface.addresses.push(address.ip);
    }
    interfaces.into_values().collect()
}

impl Interface {
    fn of(link: Link, sysfs: Option<&PathBuf>, traffic: &str) -> Self {
        let folder = sysfs.map(|sysfs| sysfs.join(&link.name));
        let has = |file: &str| folder.as_ref().is_some_and(|f| f.join(file).exists());
        // Nothing is behind a loopback, so nothing is looked for.
        let is_real = !link.is_loopback && has("device");
        let (bytes_recv, bytes_sent) = bytes(traffic, &link.name).unwrap_or_default();
        Self {
            mac: match link.hardware {
                _ if link.is_loopback => None,
                Hardware::None => None,
                Hardware::Mac(mac) => Some(mac.map(|byte| format!("{byte:02x}")).join(":")),
                Hardware::Other => folder
                    .as_ref()
                    .and_then(|folder| safe_read::kernel_begin(&folder.join("address")).ok())
                    .map(|text| text.trim().to_owned())
                    .filter(|mac| !mac.is_empty()),
            },
            is_virtual: link.is_loopback || (sysfs.is_some() && !is_real),
            is_wireless: is_real && (has("phy80211") || has("wireless")),
            is_loopback: link.is_loopback,
            is_up: link.is_up,
            bytes_sent,
            bytes_recv,
            name: link.name,
            ..Self::default()
        }
    }
}

/// Bytes received and sent (proc(5), `/proc/net/dev`): the first and the ninth column.
#[must_use]
pub fn bytes(traffic: &str, name: &str) -> Option<(u64, u64)> {
    let columns = traffic
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
    let mut columns = columns.split_whitespace();
    let received = columns.next()?.parse().ok()?;
    Some((received, columns.nth(7)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn lay(folder: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            #[expect(clippy::disallowed_methods, reason = "lays out a kernel's sysfs")]
            std::fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn classifies_by_what_is_behind_the_link() {
        let kernel = tempfile::tempdir().unwrap();
        lay(
            kernel.path(),
            &[
                ("sys/class/net/bonding_masters", "bond0"),
                ("sys/class/net/enp1s0/device/vendor", "0x8086\n"),
                ("sys/class/net/ib0/device/vendor", "0x15b3\n"),
                ("sys/class/net/ib0/address", "80:00:02:08:fe:80\n"),
                ("sys/class/net/wlan0/device/vendor", "0x8086\n"),
                ("sys/class/net/wlan0/phy80211/name", "phy0\n"),
                ("sys/class/net/wlan1/device/vendor", "0x8086\n"),
                ("sys/class/net/wlan1/wireless/x", ""),
                ("proc/net/dev", TRAFFIC),
            ],
        );
        let link = |name: &str, hardware, is_loopback, is_up| Link {
            name: name.into(),
            hardware,
            is_loopback,
            is_up,
        };
        let mac = Hardware::Mac;
        let links = vec![
            link("lo", mac([0; 6]), true, true),
            link(
                "enp1s0",
                mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
                false,
                true,
            ),
            link("ib0", Hardware::Other, false, true),
            link("wlan0", Hardware::None, false, false),
            link("wlan1", Hardware::None, false, true),
            link("docker0", mac([2, 0x42, 0, 0, 0, 1]), false, true),
        ];
        let primary: IpAddr = "10.0.0.3".parse().unwrap();
        let addresses = [
            ("lo", "127.0.0.1"),
            ("enp1s0", "10.0.0.3"),
            ("enp1s0", "fe80::1"),
            ("enp1s0:1", "10.9.0.1"),
        ]
        .map(|(interface, ip)| Address {
            interface: interface.into(),
            ip: ip.parse().unwrap(),
        })
        .to_vec();
        let network = Network { links, addresses };
        let environment = Environment::real([]).with_kernel(kernel.path());
        let found = list(&environment, network, Some(primary));
        let shown = |i: &Interface| {
            let marks = [
                (i.is_management, "management"),
                (i.is_loopback, "loopback"),
                (i.is_virtual, "virtual"),
                (i.is_wireless, "wireless"),
                (i.is_up, "up"),
            ];
            let marks: Vec<&str> = marks
                .iter()
                .filter(|(is, _)| *is)
                .map(|(_, m)| *m)
                .collect();
            format!(
                "{} {} {} tx={} rx={} [{}]",
                i.name,
                i.mac.as_deref().unwrap_or("-"),
                i.addresses.len(),
                i.bytes_sent,
                i.bytes_recv,
                marks.join(" ")
            )
        };
        assert_eq!(
            found.iter().map(shown).collect::<Vec<_>>(),
            [
                "docker0 02:42:00:00:00:01 0 tx=0 rx=0 [virtual up]",
                "enp1s0 52:54:00:12:34:56 2 tx=1073741824 rx=2147483648 [management up]",
                "enp1s0:1 - 1 tx=0 rx=0 [up]",
                "ib0 80:00:02:08:fe:80 0 tx=0 rx=0 [up]",
                "lo - 1 tx=42 rx=42 [loopback virtual up]",
                "wlan0 - 0 tx=0 rx=0 [wireless]",
                "wlan1 - 0 tx=0 rx=0 [wireless up]",
            ]
        );
    }

    #[test]
    fn this_very_host_is_as_its_own_sysfs_says() {
        let environment = Environment::real([]);
        let found = list(&environment, Network::now(), None);
        assert!(found.iter().any(|i| i.is_loopback), "{found:?}");
        let read = |name: &str, file: &str| {
            let text =
                safe_read::kernel_begin(&PathBuf::from("/sys/class/net").join(name).join(file));
            text.unwrap_or_default().trim().to_owned()
        };
        for interface in &found {
            let flags = read(&interface.name, "flags");
            let Ok(flags) = u32::from_str_radix(flags.trim_start_matches("0x"), 16) else {
                continue;
            };
            assert_eq!(interface.is_up, flags & 1 != 0, "{interface:?}");
            assert_eq!(interface.is_loopback, flags & 8 != 0, "{interface:?}");
            if let Some(mac) = &interface.mac {
                assert_eq!(*mac, read(&interface.name, "address"));
            }
        }
    }

    /// As the kernel lays it out.
    const TRAFFIC: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:      42       1    0    0    0     0          0         0       42       1    0    0    0     0       0          0
enp1s0: 2147483648    7    0    0    0     0          0         0 1073741824     9    0    0    0     0       0          0
";
}
