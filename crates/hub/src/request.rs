//! The caller of a request: its address, its certificate, its token.

use crate::app::App;
use crate::refusal::Refusal;
use crate::secret::TokenHash;
use axum::extract::{FromRef, FromRequestParts, Path};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use rustls::pki_types::CertificateDer;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use uuid::Uuid;

/// The source address of a request: the peer's, or the one that a trusted proxy reports. The
/// server inserts this extension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source(pub(crate) IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Source {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts
            .extensions
            .get()
            .copied()
            .ok_or_else(Refusal::internal)
    }
}

/// The other end of a connection. The server inserts this extension.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The peer's address.
    pub address: IpAddr,
    /// The certificate whose key the peer has proved to hold in the handshake, if it presented one.
    pub certificate: Option<CertificateDer<'static>>,
}

impl Peer {
    pub(crate) fn of(address: SocketAddr) -> Self {
        Self {
            address: address.ip(),
            certificate: None,
        }
    }

    pub(crate) fn with(mut self, chain: Option<&[CertificateDer<'_>]>) -> Self {
        let certificate = chain.and_then(<[_]>::first);
        self.certificate = certificate.map(|certificate| certificate.clone().into_owned());
        self
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts
            .extensions
            .get()
            .cloned()
            .ok_or_else(Refusal::internal)
    }
}

/// The hash of the bearer token, if the request has one.
#[derive(Clone, Copy)]
pub struct Bearer(Option<TokenHash>);

impl Bearer {
    /// Returns the hash. A request without a bearer token gets the plain 401.
    pub fn token(&self) -> Result<TokenHash, Refusal> {
        self.0.ok_or_else(Refusal::unauthorised)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Bearer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(bearer(&parts.headers).map(TokenHash::of)))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// Proof that the operator calls: a handler that takes it runs for the admin token alone.
pub struct Admin;

impl<S: Send + Sync> FromRequestParts<S> for Admin
where
    Arc<App>: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let app = Arc::<App>::from_ref(state);
        // Hashes are compared, so the time of the comparison reveals nothing about the token.
        match bearer(&parts.headers).map(TokenHash::of) {
            Some(hash) if hash == app.admin_token => Ok(Self),
            _ => Err(Refusal::unauthorised()),
        }
    }
}

/// The `{id}` of the path. Anything but a UUID is a 404.
pub struct Id(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let nothing = || Refusal::not_found("id");
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| nothing())?;
        text.parse().map(Self).map_err(|_| nothing())
    }
}
