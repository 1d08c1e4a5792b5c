//! Doors for the fuzz targets (`fuzz/`) to what is private. For nobody else.

use crate::cidr::Cidr;
use crate::host::Introduction;
use crate::origin::{Origin, Origins};
use crate::request::RawBody;
use crate::signature::{PublicKey, SIGNATURE, Verdict, verify};
use crate::source;
use axum::http::header::HOST;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

/// The address that a request counts as coming from, with these `X-Forwarded-For` headers. Those
/// that no request could carry are left out.
#[must_use]
pub fn source_address(peer: IpAddr, forwarded_for: &[&[u8]], trusted: &[Cidr]) -> IpAddr {
    let name = HeaderName::from_static("x-forwarded-for");
    let headers: HeaderMap = forwarded_for
        .iter()
        .filter_map(|value| Some((name.clone(), HeaderValue::from_bytes(value).ok()?)))
        .collect();
    source::source_address(peer, &headers, trusted)
}

/// The body of an enrolment that was accepted.
#[derive(Debug, PartialEq)]
pub struct Enrolment {
    /// What the hub stores of the host, as JSON.
    pub facts: Value,
    /// The host's own tags.
    pub tags: Vec<String>,
    /// The host's own role.
    pub role: Option<String>,
    /// The public key in base64.
    pub key: String,
}

/// Parses the body of an enrolment. A refusal is its message.
pub fn enrolment(body: &[u8]) -> Result<Enrolment, String> {
    let host = RawBody::of_json(body.to_vec())
        .json::<Introduction>()
        .map_err(|refusal| refusal.message().to_owned())?;
    Ok(Enrolment {
        facts: host.facts,
        tags: host.tags,
        role: host.role,
        key: host.key.to_base64(),
    })
}

/// Whether the hub accepts this `X-Monsys-Signature` header for this body and public key, which is
/// in base64. A key that it refuses, or a header that no request could carry, is not accepted.
#[must_use]
pub fn is_signed(header: &[u8], body: &[u8], key: &str) -> bool {
    let (Ok(key), Ok(header)) = (PublicKey::from_base64(key), HeaderValue::from_bytes(header))
    else {
        return false;
    };
    let headers = HeaderMap::from_iter([(SIGNATURE, header)]);
    verify(&headers, body, key) == Verdict::Valid
}

/// Whether the hub accepts this public key, which is in base64.
#[must_use]
pub fn is_key(key: &str) -> bool {
    PublicKey::from_base64(key).is_ok()
}

/// The URL that `/install.sh` of a hub at this address names, for a request with these `Host`
/// headers. Those that no request could carry are left out.
#[must_use]
pub fn install_url(address: SocketAddr, public_urls: &[Origin], hosts: &[&[u8]]) -> String {
    let headers: HeaderMap = hosts
        .iter()
        .filter_map(|value| Some((HOST, HeaderValue::from_bytes(value).ok()?)))
        .collect();
    let own = Origin::of_address(address, true);
    Origins::new(own, public_urls.to_vec())
        .meant_by(&headers)
        .to_string()
}
