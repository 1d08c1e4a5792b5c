//! `/etc/hosts` (hosts(5)): lines of any length, in any case, with every address of a name.

use std::net::IpAddr;

/// Returns the addresses of `name`, in the order of the file.
pub(super) fn addresses(hosts: &[u8], name: &str) -> Vec<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name).as_bytes();
    let mut found = Vec::new();
    for line in hosts.split(|byte| *byte == b'\n') {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let mut words = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        let Some(first) = words.next() else { continue };
        if !words.any(|word| word.eq_ignore_ascii_case(name)) {
            continue;
        }
        let address = std::str::from_utf8(first).ok().and_then(|a| a.parse().ok());
        found.extend(address.filter(|address| !found.contains(address)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_line_with_the_name_counts() {
        let long = " alias-number-000.test".repeat(60);
        let hosts = format!(
            "# a comment\n\
             127.0.0.1\tlocalhost\r\n\
             ::1 localhost ip6-localhost\n\
             192.0.2.1 hub.test # 192.0.2.9 other.test\n\
             192.0.2.2 {long} hub.test\n\
             192.0.2.1 HUB.test again\n\
             #192.0.2.3 hub.test\n\
             hub.test 192.0.2.4\n\
             not-an-address hub.test\n\
             2001:db8::1 Hub.Test"
        );
        let found = |name| -> Vec<String> {
            let found = addresses(hosts.as_bytes(), name);
            found.iter().map(ToString::to_string).collect()
        };
        assert_eq!(found("hub.test"), ["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
        assert_eq!(found("hub.test."), found("hub.test"));
        assert_eq!(found("localhost"), ["127.0.0.1", "::1"]);
        for none in ["other.test", "hub", "test", "192.0.2.1", ""] {
            assert!(found(none).is_empty(), "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(hosts in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = addresses(&hosts, "hub.test");
        }
    }
}
