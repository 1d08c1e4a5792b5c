//! The URLs of the hub, and the one that a client's `Host` header selects.

use axum::http::HeaderMap;
use axum::http::header::HOST;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// A scheme, a host, and a port unless it is the scheme's own: `https://hub.example.com`.
///
/// The text goes between quotes of a script that root runs, so it consists of nothing but letters,
/// digits and `.`, `_`, `-`, `:`, `[`, `]`, `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: Scheme,
    /// Lower case.
    authority: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// Parses `hub.example.com`, `192.0.2.1:8443` or `[2001:db8::1]:8443`, and nothing else.
    fn authority(self, text: &str) -> Option<String> {
        let (host, rest) = if let Some(bracketed) = text.strip_prefix('[') {
            let (ip, rest) = bracketed.split_once(']')?;
            (format!("[{}]", ip.parse::<Ipv6Addr>().ok()?), rest)
        } else {
            let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
            if !(starts_well && name.bytes().all(is_plain)) {
                return None;
            }
            (name.to_ascii_lowercase(), rest)
        };
        let port = match rest.strip_prefix(':') {
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok()?,
            None if rest.is_empty() => self.port(),
            _ => return None,
        };
        Some(if port == self.port() {
            host
        } else {
            format!("{host}:{port}")
        })
    }
}

impl Origin {
    /// Returns the origin of a hub that listens at this address.
    pub(crate) fn of_address(address: SocketAddr, http: bool) -> Self {
        let scheme = if http { Scheme::Http } else { Scheme::Https };
        let authority = address.to_string();
        Self {
            scheme,
            // Only an address with a zone does not parse, and it has no other spelling.
            authority: scheme.authority(&authority).unwrap_or(authority),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority)
    }
}

/// A text that is not an origin.
#[derive(Debug, PartialEq, Eq)]
pub struct BadOrigin(String);

impl fmt::Display for BadOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a scheme, a host and a port, such as https://hub.example.com or \
             https://192.0.2.1:8443",
            self.0
        )
    }
}

impl std::error::Error for BadOrigin {}

impl FromStr for Origin {
    type Err = BadOrigin;

    /// Parses a URL without path, query and password. One slash at its end is dropped.
    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        let read = || {
            let (scheme, rest) = text.split_once("://")?;
            let scheme = [Scheme::Http, Scheme::Https]
                .into_iter()
                .find(|known| known.name().eq_ignore_ascii_case(scheme))?;
            let authority = scheme.authority(rest.strip_suffix('/').unwrap_or(rest))?;
            Some(Self { scheme, authority })
        };
        read().ok_or_else(|| BadOrigin(text.to_owned()))
    }
}

/// All origins of a hub.
#[derive(Debug)]
pub(crate) struct Origins {
    own: Origin,
    public: Vec<Origin>,
}

impl Origins {
    pub(crate) fn new(own: Origin, public: Vec<Origin>) -> Self {
        Self { own, public }
    }

    /// Returns all origins.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Origin> {
        self.public.iter().chain([&self.own])
    }

    /// Returns whether this is the one spelling of an origin of the hub.
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.iter().any(|origin| origin.to_string() == text)
    }

    /// Returns the origin for a client. Its `Host` header only selects one of those that the operator
    /// has given; with any other header the client gets the first public URL, or the hub's own.
    pub(crate) fn selected_by(&self, headers: &HeaderMap) -> &Origin {
        let mut hosts = headers.get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().ok(),
            _ => None,
        };
        let is_selected = |origin: &&Origin| {
            let authority = host.and_then(|host| origin.scheme.authority(host));
            authority.is_some_and(|authority| authority == origin.authority)
        };
        let first = || self.public.first().unwrap_or(&self.own);
        self.iter().find(is_selected).unwrap_or_else(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn origin(text: &str) -> Origin {
        text.parse().unwrap()
    }

    #[test]
    fn an_origin_has_one_spelling() {
        for (given, shown) in [
            ("https://hub.example.com", "https://hub.example.com"),
            ("HTTPS://Hub.Example.COM:443/", "https://hub.example.com"),
            ("http://hub_1:80", "http://hub_1"),
            ("https://hub:80", "https://hub:80"),
            ("https://192.0.2.1:08443", "https://192.0.2.1:8443"),
            (
                "https://[2001:DB8:0::1]:65535",
                "https://[2001:db8::1]:65535",
            ),
        ] {
            assert_eq!(origin(given).to_string(), shown);
            assert_eq!(origin(shown), origin(given));
        }
        for bad in [
            "",
            "hub.example.com",
            "ftp://hub",
            "https://",
            "https:///",
            "https://hub//",
            "https://hub/path",
            "https://hub?q",
            "https://u:p@hub",
            "https://hub:",
            "https://hub:x",
            "https://hub:+1",
            "https://hub:65536",
            "https://hub:1:2",
            "https://-o",
            "https://hub'",
            "https://$(id)",
            "https://h b",
            "https://[::1",
            "https://[::1]x",
            "https://[hub]",
            "https://[::1%eth0]",
            "https://h\u{e9}",
        ] {
            assert_eq!(bad.parse::<Origin>(), Err(BadOrigin(bad.to_owned())));
        }
    }

    #[test]
    fn the_host_header_only_selects() {
        let own = || Origin::of_address("127.0.0.1:8443".parse().unwrap(), false);
        let public = ["https://hub.example.com", "http://[2001:db8::1]:8080"].map(origin);
        let proxied = Origins::new(own(), public.to_vec());
        let direct = Origins::new(own(), Vec::new());
        let selected = |origins: &Origins, hosts: &[&str]| {
            let value = |host: &&str| HeaderValue::from_bytes(host.as_bytes()).unwrap();
            let headers = hosts.iter().map(|host| (HOST, value(host))).collect();
            origins.selected_by(&headers).to_string()
        };
        let local = "https://127.0.0.1:8443";
        for (host, expected) in [
            ("hub.example.com", "https://hub.example.com"),
            ("HUB.example.com:443", "https://hub.example.com"),
            ("[2001:db8:0:0::1]:8080", "http://[2001:db8::1]:8080"),
            ("127.0.0.1:8443", local),
        ] {
            assert_eq!(selected(&proxied, &[host]), expected);
        }
        for hosts in [
            &[][..],
            &[""],
            &["evil.example"],
            &["hub.example.com:80"],
            &["hub.example.com."],
            &["hub.example.com", "hub.example.com"],
            &["127.0.0.1:8443", "evil.example"],
            &["127.0.0.1"],
            &["x';id;'"],
            &["$(id)"],
            &["h\u{e9}"],
        ] {
            assert_eq!(selected(&proxied, hosts), "https://hub.example.com");
            assert_eq!(selected(&direct, hosts), local);
        }
    }
}
