//! Doors for the fuzz targets (`fuzz/`) to what is private. For nobody else.

use crate::cidr::Cidr;
use crate::source;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;

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
