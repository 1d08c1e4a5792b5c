//! The source address of a request: the peer's, or the one that a trusted proxy reports.

use crate::cidr::{Cidr, canonical};
use axum::http::{HeaderMap, HeaderName};
use std::net::{IpAddr, SocketAddr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns the source address of a request.
///
/// `X-Forwarded-For` counts only from a trusted proxy. It is read from its end, since each proxy
/// appends the address that it saw: the first address from the right that is not a trusted proxy is
/// the host. The host may have made up all that is further left.
pub(crate) fn source_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Cidr]) -> IpAddr {
    let is_proxy = |address: IpAddr| trusted.iter().any(|cidr| cidr.contains(address));
    let mut source = canonical(peer);
    for hop in hops(headers).rev() {
        if !is_proxy(source) {
            break;
        }
        // If a hop is not an address, the proxy before it is the source.
        let Some(address) = parse_hop(hop) else { break };
        source = address;
    }
    source
}

/// Returns the hops of all headers of that name, leftmost first.
fn hops(headers: &HeaderMap) -> impl DoubleEndedIterator<Item = &[u8]> {
    headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .collect::<Vec<_>>()
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
}

/// Parses `10.0.0.1`, `10.0.0.1:4711`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:4711`.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bare = || text.parse().ok();
    let with_port = || text.parse().ok().map(|socket: SocketAddr| socket.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    bare().or_else(with_port).or_else(bracketed).map(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    fn source(peer: &str, headers: &[&str], trusted: &[&str]) -> String {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(X_FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
        }
        let trusted: Vec<Cidr> = trusted.iter().map(|cidr| cidr.parse().unwrap()).collect();
        source_address(peer.parse().unwrap(), &map, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_counts() {
        assert_eq!(source("192.0.2.1", &["10.0.0.1"], &[]), "192.0.2.1");
        assert_eq!(
            source("192.0.2.1", &["10.0.0.1"], &["127.0.0.0/8"]),
            "192.0.2.1"
        );
        assert_eq!(
            source("127.0.0.1", &["10.0.0.1"], &["127.0.0.0/8"]),
            "10.0.0.1"
        );
        assert_eq!(
            source("::ffff:127.0.0.1", &["10.0.0.1"], &["127.0.0.0/8"]),
            "10.0.0.1"
        );
    }

    #[test]
    fn the_last_address_that_is_not_a_proxy_counts() {
        let trusted = &["127.0.0.0/8", "10.9.0.0/16"];
        assert_eq!(
            source("127.0.0.1", &["1.1.1.1, 2.2.2.2, 10.9.0.1"], trusted),
            "2.2.2.2"
        );
        assert_eq!(
            source("127.0.0.1", &["1.1.1.1, 2.2.2.2", "10.9.0.1"], trusted),
            "2.2.2.2"
        );
        assert_eq!(
            source("127.0.0.1", &["10.9.0.2, 10.9.0.1"], trusted),
            "10.9.0.2"
        );
        assert_eq!(
            source("127.0.0.1", &["1.1.1.1,::ffff:2.2.2.2"], trusted),
            "2.2.2.2"
        );
        assert_eq!(
            source("127.0.0.1", &["[2001:db8::1]:443"], trusted),
            "2001:db8::1"
        );
        assert_eq!(
            source("127.0.0.1", &["[2001:db8::1]"], trusted),
            "2001:db8::1"
        );
        assert_eq!(source("127.0.0.1", &["2.2.2.2:80"], trusted), "2.2.2.2");
    }

    #[test]
    fn garbage_leaves_the_proxy_itself() {
        let trusted = &["127.0.0.0/8", "10.9.0.0/16"];
        for garbage in [
            "",
            " ",
            ",",
            "unknown",
            "1.1.1.1, _hidden",
            "1.1.1.1,",
            "1.1.1.1 2.2.2.2",
        ] {
            assert_eq!(
                source("127.0.0.1", &[garbage], trusted),
                "127.0.0.1",
                "{garbage:?}"
            );
        }
        assert_eq!(
            source("127.0.0.1", &["1.1.1.1, x, 10.9.0.1"], trusted),
            "10.9.0.1"
        );
    }

    fn header_bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(
            prop_oneof![
                any::<u8>().prop_filter("legal in a header", |b| HeaderValue::from_bytes(&[*b])
                    .is_ok()),
                prop::sample::select(b"0123456789abcdef:.,[] ".to_vec()),
            ],
            0..60,
        )
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(values in prop::collection::vec(header_bytes(), 0..4)) {
            let mut map = HeaderMap::new();
            for value in &values {
                map.append(X_FORWARDED_FOR, HeaderValue::from_bytes(value).unwrap());
            }
            let peer: IpAddr = "127.0.0.1".parse().unwrap();
            let trust_all: Vec<Cidr> = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
            source_address(peer, &map, &trust_all);
            prop_assert_eq!(source_address(peer, &map, &[]), peer);
        }

        #[test]
        fn agrees_with_a_plain_walk(hops in prop::collection::vec((any::<bool>(), any::<u8>()), 0..6)) {
            // A proxy is 10.x, a host 192.0.2.x: the plain walk is a search from the right.
            let addresses: Vec<String> = hops
                .iter()
                .map(|(proxy, n)| if *proxy { format!("10.0.0.{n}") } else { format!("192.0.2.{n}") })
                .collect();
            let expected = addresses
                .iter()
                .rev()
                .find(|address| !address.starts_with("10."))
                .or(addresses.first())
                .map_or("10.1.1.1", String::as_str);
            let given = addresses.join(", ");
            prop_assert_eq!(source("10.1.1.1", &[&given], &["10.0.0.0/8"]), expected);
        }
    }
}
