//! `X-Monsys-Signature`: base64 of the Ed25519 signature over the body's SHA-256.

use crate::secret::sha256;
use axum::http::{HeaderMap, HeaderName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};

/// The header that carries the signature.
pub(crate) const SIGNATURE: HeaderName = HeaderName::from_static("x-monsys-signature");

/// A host's public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey([u8; 32]);

impl PublicKey {
    /// Reads the base64 of 32 bytes.
    pub(crate) fn from_base64(text: &str) -> Option<Self> {
        Self::from_bytes(&STANDARD.decode(text).ok()?)
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn to_base64(self) -> String {
        STANDARD.encode(self.0)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What the signature header says about a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Missing,
    Wrong,
    Valid,
}

/// Judges the signature of `body` by `key`.
pub(crate) fn verify(headers: &HeaderMap, body: &[u8], key: PublicKey) -> Verdict {
    let Some(header) = headers.get(SIGNATURE) else {
        return Verdict::Missing;
    };
    let Ok(signature) = STANDARD.decode(header.as_bytes()) else {
        return Verdict::Wrong;
    };
    let key = UnparsedPublicKey::new(&ED25519, key.0);
    match key.verify(&sha256(body), &signature) {
        Ok(()) => Verdict::Valid,
        Err(_) => Verdict::Wrong,
    }
}
