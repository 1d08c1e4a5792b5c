//! Entry points of the fuzz targets (`fuzz/`) to private functions. Nothing else uses them.

use crate::body::RawBody;
use crate::cidr::Cidr;
use crate::host::Registration;
use crate::origin::{Origin, Origins};
use crate::receipt::{Receipt, sign_payload};
use crate::receipt_key::ReceiptKeys;
use crate::signature::{PublicKey, SIGNATURE, SignatureCheck, verify};
use crate::source;
use axum::http::header::HOST;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

/// Returns the source address of a request with these `X-Forwarded-For` headers. Values that no
/// request could carry are left out.
#[must_use]
pub fn source_address(peer: IpAddr, forwarded_for: &[&[u8]], trusted: &[Cidr]) -> IpAddr {
    let name = HeaderName::from_static("x-forwarded-for");
    let headers: HeaderMap = forwarded_for
        .iter()
        .filter_map(|value| Some((name.clone(), HeaderValue::from_bytes(value).ok()?)))
        .collect();
    source::source_address(peer, &headers, trusted)
}

/// The accepted body of an enrolment.
#[derive(Debug, PartialEq)]
pub struct Enrolment {
    /// The facts that the hub stores, as JSON.
    pub facts: Value,
    /// The host's own tags.
    pub tags: Vec<String>,
    /// The host's own role.
    pub role: Option<String>,
    /// The public key in base64.
    pub key: String,
}

/// Parses the body of an enrolment. The error is the message of the refusal.
pub fn enrolment(body: &[u8]) -> Result<Enrolment, String> {
    let host = RawBody::of_json(body.to_vec())
        .json::<Registration>()
        .map_err(|refusal| refusal.message().to_owned())?;
    Ok(Enrolment {
        facts: host.facts,
        tags: host.tags,
        role: host.role,
        key: host.key.to_base64(),
    })
}

/// Returns whether the hub accepts this `X-Monsys-Signature` header for this body and public key,
/// which is in base64. A refused key, or a header that no request could carry, is not accepted.
#[must_use]
pub fn is_signed(header: &[u8], body: &[u8], key: &str) -> bool {
    let (Ok(key), Ok(header)) = (PublicKey::from_base64(key), HeaderValue::from_bytes(header))
    else {
        return false;
    };
    let headers = HeaderMap::from_iter([(SIGNATURE, header)]);
    verify(&headers, body, key) == SignatureCheck::Valid
}

/// Parses a receipt by a key of this seed, and returns its agent id.
#[must_use]
pub fn receipt(text: &str, seed: [u8; 32]) -> Option<String> {
    let keys = ReceiptKeys::from_seeds(&[seed])?;
    Receipt::parse(text, &keys).map(|receipt| receipt.agent_id.to_string())
}

/// Signs a payload as a receipt of a key of this seed, whatever it is.
#[must_use]
pub fn signed_receipt(payload: &[u8], seed: [u8; 32]) -> Option<String> {
    let keys = ReceiptKeys::from_seeds(&[seed])?;
    Some(sign_payload(payload, &keys))
}

/// Returns whether the hub accepts this public key, which is in base64.
#[must_use]
pub fn is_key(key: &str) -> bool {
    PublicKey::from_base64(key).is_ok()
}

/// Returns the URL in `/install.sh` of a hub at this address, for a request with these `Host`
/// headers. Values that no request could carry are left out.
#[must_use]
pub fn install_url(address: SocketAddr, public_urls: &[Origin], hosts: &[&[u8]]) -> String {
    let headers: HeaderMap = hosts
        .iter()
        .filter_map(|value| Some((HOST, HeaderValue::from_bytes(value).ok()?)))
        .collect();
    let own = Origin::of_address(address, true);
    Origins::new(own, public_urls.to_vec())
        .selected_by(&headers)
        .to_string()
}
