//! The hub's base URL, checked.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

use crate::error::{Error, ErrorId, Result};
use crate::plain::{refuse_control, refuse_non_ascii_host};
use crate::sourced::Source;

/// The base URL of a hub: http or https, no user name, query or fragment, no slash at the end.
#[derive(Clone, PartialEq, Eq)]
pub struct HubUrl(Url);

impl HubUrl {
    /// Parses and checks `text`, which came from `source`.
    ///
    /// # Errors
    /// [`ErrorId::BadHubUrl`], which never repeats a user name or password.
    pub fn parse(text: &str, allow_http: bool, source: &Source) -> Result<Self> {
        let text = text.trim();
        // The URL parser drops line breaks and tabs without an error.
        refuse_control(text, source)?;
        refuse_non_ascii_host(text, ErrorId::BadHubUrl, source)?;
        let fail = |cause: &str| Err(Error::new(ErrorId::BadHubUrl, cause).about(source));
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => return fail(&not_a_url(text, &error.to_string())),
        };
        if !matches!(url.scheme(), "http" | "https") {
            // `hub.example.com:8443` parses, with the host as its scheme.
            return if text.contains("://") {
                fail(&format!(
                    "the URL's scheme is `{}`, not `https`",
                    url.scheme()
                ))
            } else {
                fail("the URL has no scheme")
            };
        }
        if !url.username().is_empty() || url.password().is_some() {
            return fail("the URL contains a user name or password");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return fail("the URL has a query or a fragment");
        }
        let hub = Self(url);
        if hub.0.scheme() == "http" && !allow_http && !hub.is_loopback() {
            return fail("plain http would send the token without encryption");
        }
        Ok(hub)
    }

    /// Returns the URL of an API path, such as `/api/v1/agents/enrol`.
    #[must_use]
    pub fn join(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}{path}"));
        url
    }

    /// Returns the origin (RFC 6454, section 6.2): scheme, host, and the port unless it is the scheme's own.
    #[must_use]
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// Returns true when the hub is reached over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Returns the host, without the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0
            .host_str()
            .unwrap_or_default()
            .trim_start_matches('[')
            .trim_end_matches(']')
    }

    /// Returns the port, or the scheme's default port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }

    fn is_loopback(&self) -> bool {
        match self.host().parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.host() == "localhost",
        }
    }
}

impl fmt::Display for HubUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for HubUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns the cause of a text that is not a URL, without a user name or password of it.
fn not_a_url(text: &str, error: &str) -> String {
    let Some((_, rest)) = text.split_once("://") else {
        return "the URL has no scheme".into();
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if !host.starts_with('[') && host.matches(':').count() > 1 {
        return "an IPv6 address in a URL has brackets around it: https://[ADDRESS]:PORT".into();
    }
    if host.starts_with('[') && host.contains('%') {
        return "the address has a zone, which a URL cannot have (RFC 3986, section 3.2.2): use a name, or an address that needs no zone".into();
    }
    format!("it is not a valid URL: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<HubUrl> {
        HubUrl::parse(text, false, &Source::Flag("--hub-url"))
    }

    #[test]
    fn keeps_a_path_and_drops_the_last_slash() {
        let hub = parse(" https://hub.example.com:8443/monsys/ ").unwrap();
        assert_eq!(hub.to_string(), "https://hub.example.com:8443/monsys");
        assert_eq!(
            hub.join("/api/v1/agents/enrol").as_str(),
            "https://hub.example.com:8443/monsys/api/v1/agents/enrol"
        );
        assert_eq!((hub.host(), hub.port()), ("hub.example.com", 8443));
    }

    #[test]
    fn an_a_label_stays_as_it_is() {
        for text in [
            "https://xn--bcher-kva.example",
            "https://XN--BCHER-KVA.example",
            "https://xn--mgbh0fb.xn--kgbechtv:8443/x",
            // A label with a joiner, and labels from right to left, one of them with a digit.
            "https://xn--1ug6825plhas9r.example",
            "https://xn--ghb.example",
            "https://xn--9-ymca.example",
        ] {
            let hub = parse(text).unwrap();
            assert_eq!(hub.to_string(), text.to_ascii_lowercase());
            assert!(hub.host().starts_with("xn--"), "{text}");
        }
        assert!(parse("https://xn--\u{fc}.example").is_err());
    }

    #[test]
    fn an_error_names_the_cause_and_the_source() {
        for (text, cause) in [
            ("hub.example.com", "no scheme"),
            ("hub.example.com:8443", "no scheme"),
            ("ftp://hub.example.com", "`ftp`"),
            ("https://", "not a valid URL: empty host"),
            ("https://hub.example.com:99999", "invalid port number"),
            ("https://2001:db8::1", "https://[ADDRESS]:PORT"),
            ("https://::1:8443/monsys", "https://[ADDRESS]:PORT"),
            ("https://user:hunter2@fe80::1", "https://[ADDRESS]:PORT"),
            ("https://[fe80::1%eth0]:8443", "a zone"),
            ("https://[fe80::1%25eth0]", "a zone"),
            ("https://[::1", "invalid IPv6 address"),
            ("https://local host", "not a valid URL"),
            ("https://user:hunter2@hub.example.com", "user name"),
            ("https://hub.example.com/?token=x", "query"),
            ("https://hub.example.com/#x", "fragment"),
            (
                "https://b\u{fc}cher.example.com",
                "U+00FC, which is not ASCII",
            ),
            ("https://user:hunter2@b\u{fc}cher.example", "U+00FC"),
            ("http://hub.example.com", "without encryption"),
            ("http://10.0.0.1", "without encryption"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.cause().contains(cause), "{text}: {error}");
            assert!(error.what().contains("--hub-url"));
            assert!(!error.to_string().contains("hunter2"));
            assert_eq!(error.exit_code(), 64);
        }
    }

    #[test]
    fn plain_http_reaches_loopback_alone() {
        for text in [
            "http://127.0.0.1:8080",
            "http://localhost",
            "http://[::1]:1",
            "http://[::ffff:127.0.0.1]",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
        assert!(HubUrl::parse("http://10.0.0.1", true, &Source::Default).is_ok());
    }
}
