//! The proxy for https, and the hosts that are reached without it, in the forms that curl(1) and Go's
//! `golang.org/x/net/http/httpproxy` take.

use std::net::IpAddr;
use std::sync::Once;

use ipnet::IpNet;
use reqwest::Url;

use super::reader::Reader;
use super::{HubUrl, table};
use crate::error::{Error, ErrorId, Result};
use crate::escape::one_line;
use crate::plain::{refuse_control, refuse_non_ascii_host};
use crate::sourced::{Source, Sourced};

/// The proxy for https, and its exceptions.
#[derive(Clone)]
pub struct ProxySettings {
    /// Proxy URL. The URL may contain a password, so messages never show all of it.
    pub url: Url,
    /// Hosts and networks that are reached without the proxy, as in the setting.
    pub exceptions: Option<String>,
    /// True when the hub is among the exceptions.
    pub is_bypassed: bool,
}

impl Reader<'_> {
    pub(super) fn proxy(&self, hub: &HubUrl) -> Result<Option<Sourced<ProxySettings>>> {
        let Some(sourced) =
            self.resolve_optional(&table::PROXY, None, self.keys.https_proxy.as_deref())?
        else {
            return Ok(None);
        };
        let exceptions =
            self.resolve_optional(&table::NO_PROXY, None, self.keys.no_proxy.as_deref())?;
        if let Some(exceptions) = &exceptions {
            refuse_control(&exceptions.value, &exceptions.source)?;
            warn_of_unknown_forms(&exceptions.value, &exceptions.source);
        }
        let is_bypassed = exceptions
            .as_ref()
            .is_some_and(|list| names(&list.value, hub.host(), hub.port()));
        let url = match parse(&sourced) {
            Ok(url) => url,
            // A proxy of another kind, which serves other programs, does not matter then.
            Err(_) if is_bypassed => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Sourced {
            value: ProxySettings {
                url,
                exceptions: exceptions.map(|sourced| sourced.value),
                is_bypassed,
            },
            source: sourced.source,
        }))
    }
}

fn parse(sourced: &Sourced<String>) -> Result<Url> {
    let text = sourced.value.trim();
    refuse_control(text, &sourced.source)?;
    let text = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    // In a password with a raw `/`, `?` or `#` (RFC 3986, section 3.2), the user would be the host, and
    // messages would show the beginning of the password.
    let is_bare = |url: &Url| {
        matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none()
    };
    let error = || {
        Error::new(
            ErrorId::BadSetting,
            "a proxy's URL is http://[USER:PASSWORD@]HOST:PORT or https://…, and `/`, `?`, `#` and `@` in a password are %2F, %3F, %23 and %40",
        )
        .about(&sourced.source)
    };
    if text
        .get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("socks"))
    {
        return Err(error().hint("SOCKS is not supported: set https_proxy to an http proxy, or no_proxy to the hub's host to connect without a proxy"));
    }
    refuse_non_ascii_host(&text, ErrorId::BadSetting, &sourced.source)?;
    Url::parse(&text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
        .filter(is_bare)
        .ok_or_else(error)
}

/// An entry of the exceptions.
#[derive(Debug, PartialEq, Eq)]
enum Entry<'a> {
    /// `*`
    All,
    /// A network, such as `10.0.0.0/8`.
    Network(IpNet),
    /// An address, and a port if only that port is meant: `10.0.0.1`, `[::1]:443`.
    Address(IpAddr, Option<u16>),
    /// A domain, with a port if only that port is meant. `example.org` and `.example.org` mean the domain and all
    /// below it (curl), `*.example.org` only those below (Go).
    Domain {
        name: &'a str,
        is_without_itself: bool,
        port: Option<u16>,
    },
}

impl<'a> Entry<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        if text.contains('/') {
            return text.parse().map(Self::Network).ok();
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse() {
            return Some(Self::Address(address, None));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (text, None),
        };
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            return Some(Self::Address(address, port));
        }
        let (below, is_without_itself) = match host.strip_prefix("*.") {
            Some(below) => (below, true),
            None => (host.strip_prefix('.').unwrap_or(host), false),
        };
        let name = below.strip_suffix('.').unwrap_or(below);
        let is_label = |label: &str| {
            let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            !label.is_empty() && label.chars().all(is_letter)
        };
        name.split('.').all(is_label).then_some(Self::Domain {
            name,
            is_without_itself,
            port,
        })
    }

    fn means(&self, host: &str, port: u16) -> bool {
        let is_port = |only: &Option<u16>| only.is_none_or(|only| only == port);
        let address = host.parse::<IpAddr>().ok();
        match self {
            Self::All => true,
            Self::Network(network) => address.is_some_and(|address| network.contains(&address)),
            Self::Address(only, ports) => address == Some(*only) && is_port(ports),
            // An address has digits, and not labels of a domain.
            Self::Domain { .. } if address.is_some() => false,
            Self::Domain {
                name,
                is_without_itself,
                port,
            } => {
                let host = host.strip_suffix('.').unwrap_or(host);
                let below = host.len().checked_sub(name.len()).and_then(|length| {
                    let (below, end) = host.split_at_checked(length)?;
                    end.eq_ignore_ascii_case(name).then_some(below)
                });
                let is_meant = match below {
                    Some("") => !is_without_itself,
                    Some(below) => below.ends_with('.'),
                    None => false,
                };
                is_meant && is_port(port)
            }
        }
    }
}

/// Returns the entries of a list: both commas and blanks separate them.
fn entries(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', ' ', '\t'])
        .filter(|entry| !entry.is_empty())
}

/// Returns whether `list` names the host, for this port.
fn names(list: &str, host: &str, port: u16) -> bool {
    entries(list)
        .filter_map(Entry::parse)
        .any(|entry| entry.means(host, port))
}

/// Warns once in a run, because the settings are read more than once.
fn warn_of_unknown_forms(list: &str, source: &Source) {
    static WARNED: Once = Once::new();
    let unknown: Vec<_> = entries(list)
        .filter(|entry| Entry::parse(entry).is_none())
        .map(one_line)
        .collect();
    if !unknown.is_empty() {
        WARNED.call_once(|| {
            tracing::warn!(
                "{source}: passing over {}: an entry is `*`, a domain, an address or a network, such as .example.org, 10.0.0.1:8443, [::1] or 10.0.0.0/8",
                unknown.join(", ")
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row: the list, the host, the port, and whether curl or Go connects without the proxy.
    #[test]
    fn exceptions_are_those_of_curl_and_go() {
        for (list, host, port, is_bypassed) in [
            ("*", "hub.test", 443, true),
            ("*", "127.0.0.1", 443, true),
            ("*", "::1", 443, true),
            ("hub.test", "hub.test", 443, true),
            ("hub.test", "a.hub.test", 443, true),
            ("hub.test", "nothub.test", 443, false),
            (".hub.test", "a.hub.test", 443, true),
            (".hub.test", "hub.test", 443, true),
            ("*.hub.test", "a.hub.test", 443, true),
            ("*.hub.test", "hub.test", 443, false),
            ("A.HUB.TEST", "a.hub.test", 443, true),
            ("hub.test.", "hub.test", 443, true),
            ("hub.test", "hub.test.", 443, true),
            ("hub.test:8443", "hub.test", 8443, true),
            ("hub.test:8443", "a.hub.test", 8443, true),
            ("hub.test:8443", "hub.test", 443, false),
            ("x, hub.test ,y", "hub.test", 443, true),
            ("x hub.test\ty", "hub.test", 443, true),
            ("10.0.0.1", "10.0.0.1", 443, true),
            ("10.0.0.1:8443", "10.0.0.1", 8443, true),
            ("10.0.0.1:8443", "10.0.0.1", 443, false),
            ("10.0.0.0/8", "10.1.2.3", 443, true),
            ("10.0.0.0/8", "11.1.2.3", 443, false),
            ("10.0.0.0/8", "hub.test", 443, false),
            ("::1", "::1", 443, true),
            ("[::1]", "::1", 443, true),
            ("[::1]:8443", "::1", 8443, true),
            ("[::1]:8443", "::1", 443, false),
            ("::/0", "2001:db8::1", 443, true),
            ("1", "127.0.0.1", 443, false),
            ("127.*", "127.0.0.1", 443, false),
            ("", "hub.test", 443, false),
        ] {
            assert_eq!(
                names(list, host, port),
                is_bypassed,
                "{list:?} {host}:{port}"
            );
        }
    }

    #[test]
    fn other_forms_are_recognised_as_unknown() {
        for entry in [
            "127.*",
            "a.*.test",
            "https://hub.test",
            "10.0.0.0/99",
            "hub.test:https",
            "hub.test:",
            ".",
            "*.",
            "a..b",
            "@hub",
            // The host's name is in its A-label form, to which no other form is equal.
            "b\u{fc}cher.test",
        ] {
            assert_eq!(Entry::parse(entry), None, "{entry}");
        }
    }
}
