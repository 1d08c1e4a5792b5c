//! Tokens: how they are made, and the one form in which they are stored.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::fmt;

/// The SHA-256 of a token. The hub stores nothing else of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Hashes a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(sha256(token.as_bytes()))
    }

    /// Returns the hash as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The purpose of a token, which its prefix shows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TokenKind {
    Enrolment,
    Agent,
    Admin,
}

impl TokenKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Enrolment => "enrl_",
            Self::Agent => "agt_",
            Self::Admin => "adm_",
        }
    }
}

/// Makes a token: the prefix and a fresh secret.
pub(crate) fn fresh_token(kind: TokenKind) -> Result<String, NoRandomness> {
    Ok(format!("{}{}", kind.prefix(), fresh_secret()?))
}

/// Makes a secret: 32 random bytes as 43 characters of base64url.
pub fn fresh_secret() -> Result<String, NoRandomness> {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Returns the SHA-256 of the bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// The failure to get random bytes from the system.
#[derive(Debug)]
pub struct NoRandomness;

impl fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system gave no random bytes")
    }
}
