//! Address ranges in CIDR notation, on top of the `ipnet` crate.

use ipnet::{IpNet, Ipv4Net};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses such as `10.0.0.0/8` or `2001:db8::/32`.
///
/// A bare address is a range of one. Host bits are cleared. An IPv4 range that was written as
/// IPv4-mapped IPv6 becomes IPv4, as addresses do too: an IPv4 host matches IPv4 ranges only,
/// however its address reached the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr(IpNet);

impl Cidr {
    /// Returns whether `address` lies in this range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&canonical(address))
    }
}

/// Turns an IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) into IPv4.
#[must_use]
pub(crate) fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let bad = || BadCidr(text.chars().take(64).collect());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        // `IpNet::from_str` would also take `010.0.0.1` and `/08`, which other tools refuse.
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let net = match prefix {
            None => IpNet::from(address),
            Some(digits) => parse_prefix(digits)
                .and_then(|prefix| IpNet::new(address, prefix).ok())
                .ok_or_else(bad)?,
        };
        Ok(Self(without_mapping(net).trunc()))
    }
}

/// Parses plain decimal digits: `u8::from_str` would also take `+8` and `008`.
fn parse_prefix(digits: &str) -> Option<u8> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    if plain { digits.parse().ok() } else { None }
}

/// Turns a range that lies within the IPv4-mapped addresses (`::ffff:0:0/96`) into IPv4.
fn without_mapping(net: IpNet) -> IpNet {
    let mapped = || {
        let IpNet::V6(v6) = net else { return None };
        let v4 = v6.addr().to_ipv4_mapped()?;
        Ipv4Net::new(v4, v6.prefix_len().checked_sub(96)?).ok()
    };
    mapped().map_or(net, IpNet::V4)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is not an address range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadCidr(String);

impl fmt::Display for BadCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not an address range such as 10.0.0.0/8 or 2001:db8::/32",
            self.0
        )
    }
}

impl std::error::Error for BadCidr {}

/// The most ranges of a list.
const MAX_CIDRS: usize = 64;

/// Parses the list `allowed_cidrs` of a body, which may be missing. Returns the canonical form of each range.
pub(crate) fn parse_list(allowed_cidrs: Option<Vec<String>>) -> Result<Vec<String>, String> {
    let ranges = allowed_cidrs.unwrap_or_default();
    if ranges.len() > MAX_CIDRS {
        return Err(format!("allowed_cidrs: at most {MAX_CIDRS} ranges"));
    }
    let canonical = |text: &String| text.parse::<Cidr>().map(|cidr| cidr.to_string());
    let parsed: Result<_, _> = ranges.iter().map(canonical).collect();
    parsed.map_err(|cause: BadCidr| format!("allowed_cidrs: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// Compares bit by bit, as a second opinion.
    fn naive(network: &[u8], prefix: u8, address: &[u8]) -> bool {
        let bit = |bytes: &[u8], n: usize| bytes[n / 8] >> (7 - n % 8) & 1;
        network.len() == address.len()
            && (0..usize::from(prefix)).all(|n| bit(network, n) == bit(address, n))
    }

    fn near(base: u128, other: u128, shared: u32) -> u128 {
        let mask = u128::MAX.checked_shl(128 - shared).unwrap_or_default();
        base & mask | other & !mask
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC*") {
            let _ = text.parse::<Cidr>();
        }

        #[test]
        fn near_misses_are_parsed_or_refused(text in "[0-9a-f:./+ ]{0,24}") {
            if let Ok(cidr) = text.parse::<Cidr>() {
                prop_assert_eq!(cidr.to_string().parse::<Cidr>(), Ok(cidr));
            }
        }

        #[test]
        fn v4_agrees_bit_by_bit(base: u32, other: u32, shared in 0u32..=32, prefix in 0u8..=32) {
            let mask = u32::MAX.checked_shl(32 - shared).unwrap_or_default();
            let address = Ipv4Addr::from(base & mask | other & !mask);
            let network = Ipv4Addr::from(base);
            let cidr: Cidr = format!("{network}/{prefix}").parse().unwrap();
            let expected = naive(&network.octets(), prefix, &address.octets());
            prop_assert_eq!(cidr.contains(address.into()), expected);
            prop_assert_eq!(cidr.contains(address.to_ipv6_mapped().into()), expected);
            let mapped: Cidr = format!("{}/{}", network.to_ipv6_mapped(), prefix + 96).parse().unwrap();
            prop_assert_eq!(mapped, cidr);
        }

        #[test]
        fn v6_agrees_bit_by_bit(base: u128, other: u128, shared in 0u32..=128, prefix in 0u8..=128) {
            let address = Ipv6Addr::from(near(base, other, shared));
            let network = Ipv6Addr::from(base);
            prop_assume!(network.to_ipv4_mapped().is_none() && address.to_ipv4_mapped().is_none());
            let cidr: Cidr = format!("{network}/{prefix}").parse().unwrap();
            let expected = naive(&network.octets(), prefix, &address.octets());
            prop_assert_eq!(cidr.contains(address.into()), expected);
        }
    }

    #[test]
    fn numbers_are_plain_decimal() {
        for text in [
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/-1",
            "10.0.0/8",
            "010.0.0.1",
            "010.0.0.0/8",
            "::/129",
            "/8",
            "",
            "10.0.0.0/8/8",
            " 10.0.0.0/8",
            "localhost",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn v4_and_v6_do_not_mix() {
        let all_v6: Cidr = "::/0".parse().unwrap();
        assert!(!all_v6.contains("10.0.0.1".parse().unwrap()));
        assert!(!all_v6.contains("::ffff:10.0.0.1".parse().unwrap()));
        let all_v4: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all_v4.contains("::ffff:10.0.0.1".parse().unwrap()));
        assert!(!all_v4.contains("::1".parse().unwrap()));
    }
}
