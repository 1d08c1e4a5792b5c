//! The host's network interfaces, as the kernel reports them. No packet is sent.

mod labels;
mod limit;
mod network;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;

use crate::environment::Environment;
use crate::inserted::inserted;
use crate::store::safe_read;
pub(super) use limit::limited;
pub(super) use network::Network;
use network::{Hardware, Link};

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct Interface {
    /// Name, such as `enp130s0f0`.
    pub name: String,
    /// Hardware address, if the interface has one.
    pub mac: Option<String>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
    /// The interface has the primary address.
    pub is_management: bool,
    /// The interface is a loopback interface.
    pub is_loopback: bool,
    /// The interface has no device in sysfs.
    pub is_virtual: bool,
    /// The interface is wireless.
    pub is_wireless: bool,
    /// The interface is administratively up.
    pub is_up: bool,
    /// Bytes sent since the interface came up.
    pub bytes_sent: u64,
    /// Bytes received since the interface came up.
    pub bytes_recv: u64,
}

/// Returns all interfaces, by name. Netlink lists them, sysfs has their devices, and `/proc/net/dev` has
/// their traffic.
pub(super) fn list(
    environment: &Environment,
    network: Network,
    primary: Option<IpAddr>,
) -> Vec<Interface> {
    let sysfs = environment.kernel_path("/sys/class/net");
    let has_sysfs = sysfs.exists();
    let traffic = safe_read::kernel(&environment.kernel_path("/proc/net/dev")).unwrap_or_default();
    let traffic = traffic_in(&traffic);
    let names = network.links.iter().map(|link| link.name.clone());
    let names: Vec<String> = names.collect();
    let names: BTreeSet<&str> = inserted(names.iter().map(String::as_str));
    let links = network.links.into_iter();
    let mut interfaces: BTreeMap<String, Interface> = inserted(links.map(|link| {
        let interface = Interface::of(link, has_sysfs.then_some(&sysfs), &traffic);
        (interface.name.clone(), interface)
    }));
    for address in network.addresses {
        let is_loopback = address.ip.is_loopback();
        let device = Network::device(&names, &address.interface).to_owned();
        let interface = interfaces
            .entry(device)
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
    fn of(link: Link, sysfs: Option<&PathBuf>, traffic: &HashMap<&str, (u64, u64)>) -> Self {
        let folder = sysfs.map(|sysfs| sysfs.join(&link.name));
        let has = |file: &str| folder.as_ref().is_some_and(|f| f.join(file).exists());
        // A loopback interface never has a device, so sysfs is not read.
        let is_real = !link.is_loopback && has("device");
        let (bytes_recv, bytes_sent) = traffic.get(&*link.name).copied().unwrap_or_default();
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

/// Returns the bytes that the interface `name` received and sent, from the text of `/proc/net/dev`.
#[must_use]
pub fn bytes(traffic: &str, name: &str) -> Option<(u64, u64)> {
    traffic_in(traffic).get(name).copied()
}

/// Returns the bytes received and sent by interface: the first and the ninth column of `/proc/net/dev`
/// (proc(5)).
fn traffic_in(text: &str) -> HashMap<&str, (u64, u64)> {
    let mut traffic = HashMap::new();
    for line in text.lines() {
        if let Some((name, columns)) = line.split_once(':') {
            let mut columns = columns.split_whitespace();
            let received = columns.next().and_then(|column| column.parse().ok());
            let sent = columns.nth(7).and_then(|column| column.parse().ok());
            if let (Some(received), Some(sent)) = (received, sent) {
                traffic.entry(name.trim_start()).or_insert((received, sent));
            }
        }
    }
    traffic
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::network::Address;
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
    fn classifies_by_the_device_in_sysfs() {
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
            let flags = [
                (i.is_management, "management"),
                (i.is_loopback, "loopback"),
                (i.is_virtual, "virtual"),
                (i.is_wireless, "wireless"),
                (i.is_up, "up"),
            ];
            let flags: Vec<&str> = flags
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
                flags.join(" ")
            )
        };
        assert_eq!(
            found.iter().map(shown).collect::<Vec<_>>(),
            [
                "docker0 02:42:00:00:00:01 0 tx=0 rx=0 [virtual up]",
                "enp1s0 52:54:00:12:34:56 3 tx=1073741824 rx=2147483648 [management up]",
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

    /// `/proc/net/dev` in the kernel's layout.
    const TRAFFIC: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:      42       1    0    0    0     0          0         0       42       1    0    0    0     0       0          0
enp1s0: 2147483648    7    0    0    0     0          0         0 1073741824     9    0    0    0     0       0          0
";
}
