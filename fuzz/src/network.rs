//! Addresses that the mock hub believes: ranges of a token, hops of a proxy.

use std::net::IpAddr;

use hub::{Cidr, fuzzing};

use crate::parts;

/// A range comes back as it is shown, and holds just the addresses whose first bits are its own.
pub fn cidr(bytes: &[u8]) {
    let [range, address] = parts(bytes);
    let Ok(cidr) = range.parse::<Cidr>() else {
        return;
    };
    let shown = cidr.to_string();
    assert_eq!(shown.parse(), Ok(cidr), "{shown}");
    let Some((network, prefix)) = shown.split_once('/') else {
        panic!("{shown} has no prefix");
    };
    let network: IpAddr = network.parse().expect("a network is an address");
    let prefix: usize = prefix.parse().expect("a prefix is a number");
    assert!(cidr.contains(network), "{shown} lacks its own network");
    if let Ok(address) = address.trim().parse::<IpAddr>() {
        let canonical = address.to_canonical();
        let (ours, theirs) = (octets(network), octets(canonical));
        let bit = |bytes: &[u8], n: usize| bytes[n / 8] >> (7 - n % 8) & 1;
        let expected =
            ours.len() == theirs.len() && (0..prefix).all(|n| bit(&ours, n) == bit(&theirs, n));
        assert_eq!(cidr.contains(address), expected, "{shown} and {address}");
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Nobody but a trusted proxy changes the source, and what a host makes up on the left of it
/// changes nothing. A line is a header.
pub fn x_forwarded_for(bytes: &[u8]) {
    let proxies: Vec<Cidr> = ["127.0.0.0/8", "10.9.0.0/16", "2001:db8::/32"]
        .iter()
        .filter_map(|range| range.parse().ok())
        .collect();
    let is_proxy = |address: IpAddr| proxies.iter().any(|range| range.contains(address));
    let headers: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let proxy = IpAddr::from([127, 0, 0, 1]);
    let host = IpAddr::from([192, 0, 2, 1]);

    assert_eq!(fuzzing::source_address(host, &headers, &proxies), host);
    assert_eq!(fuzzing::source_address(proxy, &[], &proxies), proxy);

    let source = fuzzing::source_address(proxy, &headers, &proxies);
    assert_eq!(source, source.to_canonical());
    if !is_proxy(source) {
        let mut forged: Vec<&[u8]> = vec![b"203.0.113.66, 10.9.0.1"];
        forged.extend(&headers);
        assert_eq!(fuzzing::source_address(proxy, &forged, &proxies), source);
    }
    // A proxy in front that tells the truth of what it saw adds itself, and changes nothing.
    let seen = source.to_string();
    let mut passed_on = headers.clone();
    passed_on.push(seen.as_bytes());
    let again = fuzzing::source_address(proxy, &passed_on, &proxies);
    assert!(again == source || is_proxy(source), "{again}, not {source}");
}
