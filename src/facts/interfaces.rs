//! The host's network interfaces, from sysfs and getifaddrs. No packet is sent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

/// `IFF_UP` and `IFF_LOOPBACK` of netdevice(7).
const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;

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

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) interface: String,
    pub(super) ip: IpAddr,
}

/// All addresses of this host.
pub(super) fn addresses() -> Vec<Address> {
    if_addrs::get_if_addrs()
        .unwrap_or_default()
        .into_iter()
        .map(|interface| Address {
            ip: interface.ip(),
            interface: interface.name,
        })
        .collect()
}

/// All interfaces, by name. Without sysfs, those that have an address.
pub(super) fn list(sysfs: &Path, addresses: &[Address], primary: Option<IpAddr>) -> Vec<Interface> {
    let mut interfaces: BTreeMap<String, Interface> = std::fs::read_dir(sysfs)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            // `bonding_masters` is a file among the links.
            let name = entry.file_name().into_string().ok()?;
            entry
                .path()
                .is_dir()
                .then(|| (name.clone(), from_sysfs(&entry.path(), name)))
        })
        .collect();
    for address in addresses {
        let interface = interfaces
            .entry(address.interface.clone())
            .or_insert_with(|| Interface {
                name: address.interface.clone(),
                is_loopback: address.ip.is_loopback(),
                is_virtual: address.ip.is_loopback(),
                is_up: true,
                ..Interface::default()
            });
        interface.is_management |= Some(address.ip) == primary;
        interface.addresses.push(address.ip);
    }
    interfaces.into_values().collect()
}

fn from_sysfs(folder: &Path, name: String) -> Interface {
    let read = |file: &str| {
        let text = crate::store::read::text(&folder.join(file)).ok()?;
        Some(text.trim().to_owned())
    };
    let count = |file| read(file).and_then(|text| text.parse().ok()).unwrap_or(0);
    let flags = read("flags")
        .and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok())
        .unwrap_or(0);
    let is_loopback = flags & IFF_LOOPBACK != 0;
    Interface {
        mac: read("address").filter(|mac| !mac.is_empty() && !is_loopback),
        is_loopback,
        is_virtual: !folder.join("device").exists(),
        is_wireless: folder.join("wireless").exists() || folder.join("phy80211").exists(),
        is_up: flags & IFF_UP != 0,
        bytes_sent: count("statistics/tx_bytes"),
        bytes_recv: count("statistics/rx_bytes"),
        name,
        ..Interface::default()
    }
}

#[cfg(test)]
mod tests {
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
    fn classifies_by_what_sysfs_shows() {
        let sysfs = tempfile::tempdir().unwrap();
        lay(
            sysfs.path(),
            &[
                ("bonding_masters", "bond0"),
                ("lo/flags", "0x9\n"),
                ("lo/address", "00:00:00:00:00:00\n"),
                ("enp1s0/flags", "0x1003\n"),
                ("enp1s0/address", "52:54:00:12:34:56\n"),
                ("enp1s0/device/vendor", "0x8086\n"),
                ("enp1s0/statistics/tx_bytes", "1073741824\n"),
                ("enp1s0/statistics/rx_bytes", "2147483648\n"),
                ("wlan0/flags", "0x1002\n"),
                ("wlan0/device/vendor", "0x8086\n"),
                ("wlan0/phy80211/name", "phy0\n"),
                ("docker0/flags", "0x1003\n"),
                ("docker0/address", "02:42:00:00:00:01\n"),
            ],
        );
        let primary: IpAddr = "10.0.0.3".parse().unwrap();
        let addresses = [
            ("lo", "127.0.0.1"),
            ("enp1s0", "10.0.0.3"),
            ("enp1s0", "fe80::1"),
            ("tun7", "10.9.0.1"),
        ]
        .map(|(interface, ip)| Address {
            interface: interface.into(),
            ip: ip.parse().unwrap(),
        });
        let found = list(sysfs.path(), &addresses, Some(primary));
        let line = |i: &Interface| {
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
            found.iter().map(line).collect::<Vec<_>>(),
            [
                "docker0 02:42:00:00:00:01 0 tx=0 rx=0 [virtual up]",
                "enp1s0 52:54:00:12:34:56 2 tx=1073741824 rx=2147483648 [management up]",
                "lo - 1 tx=0 rx=0 [loopback virtual up]",
                "tun7 - 1 tx=0 rx=0 [up]",
                "wlan0 - 0 tx=0 rx=0 [wireless]",
            ]
        );
    }

    #[test]
    fn finds_the_loopback_of_this_very_host() {
        let found = list(Path::new("/sys/class/net"), &addresses(), None);
        assert!(found.iter().any(|i| i.is_loopback), "{found:?}");
    }
}
