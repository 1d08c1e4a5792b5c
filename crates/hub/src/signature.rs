//! `X-Monsys-Signature`: base64 of the Ed25519 signature over the body's SHA-256.

use crate::secret::sha256;
use axum::http::{HeaderMap, HeaderName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use curve25519_dalek::edwards::CompressedEdwardsY;
use ring::signature::{ED25519, UnparsedPublicKey};
use std::fmt;

/// The header that carries the signature.
pub(crate) const SIGNATURE: HeaderName = HeaderName::from_static("x-monsys-signature");

/// A host's public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey([u8; 32]);

/// The reason to refuse a public key. The text completes "`signing_pubkey`: must be …".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadKey {
    Encoding,
    /// Not a point of the curve, or not the one encoding that RFC 8032 section 5.1.2 gives a point.
    /// With two encodings, one host would be two agents.
    NotCanonical,
    /// One of the eight points whose order divides 8. Signatures that anybody can compute verify
    /// under such a key, so they prove nothing.
    SmallOrder,
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoding => "the base64 of 32 bytes",
            Self::NotCanonical => "an Ed25519 public key in its canonical encoding",
            Self::SmallOrder => "an Ed25519 public key that is not of small order",
        })
    }
}

impl PublicKey {
    /// Parses the base64 of a host's public key. Refuses keys that prove nothing.
    pub(crate) fn from_base64(text: &str) -> Result<Self, BadKey> {
        let bytes = STANDARD.decode(text).map_err(|_| BadKey::Encoding)?;
        let key = Self::from_bytes(&bytes).ok_or(BadKey::Encoding)?;
        check_point(key.0)?;
        Ok(key)
    }

    /// Takes the bytes of a key from the database. A key that an older hub pinned, and that would be
    /// refused now, stays pinned; [`verify`] accepts no signature by it.
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

/// Checks that these bytes are the canonical encoding of a point of large order.
fn check_point(bytes: [u8; 32]) -> Result<(), BadKey> {
    let encoded = CompressedEdwardsY(bytes);
    // Decoding reduces `y` modulo p, and takes the sign of an `x` that is 0, as ring's does too.
    let point = encoded.decompress().ok_or(BadKey::NotCanonical)?;
    if point.is_small_order() {
        Err(BadKey::SmallOrder)
    } else if point.compress() == encoded {
        Ok(())
    } else {
        Err(BadKey::NotCanonical)
    }
}

/// The result of a signature check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignatureCheck {
    Missing,
    Wrong,
    Valid,
}

/// Checks the signature of `body` by `key`, as strictly as RFC 8032 allows: the key and `R` are
/// canonical and of large order, and `S` is less than the order of the group. ring checks `S`, and
/// compares `R` byte by byte with the one that it computes.
pub(crate) fn verify(headers: &HeaderMap, body: &[u8], key: PublicKey) -> SignatureCheck {
    verify_message(headers, &sha256(body), key)
}

/// Checks the signature of `message` by `key`, as strictly as [`verify`].
pub(crate) fn verify_message(
    headers: &HeaderMap,
    message: &[u8],
    key: PublicKey,
) -> SignatureCheck {
    let Some(header) = headers.get(SIGNATURE) else {
        return SignatureCheck::Missing;
    };
    let Ok(signature) = STANDARD.decode(header.as_bytes()) else {
        return SignatureCheck::Wrong;
    };
    let Some((r, _)) = signature.split_first_chunk::<32>() else {
        return SignatureCheck::Wrong;
    };
    if check_point(key.0).is_err() || check_point(*r).is_err() {
        return SignatureCheck::Wrong;
    }
    let key = UnparsedPublicKey::new(&ED25519, key.0);
    match key.verify(message, &signature) {
        Ok(()) => SignatureCheck::Valid,
        Err(_) => SignatureCheck::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use curve25519_dalek::constants::{ED25519_BASEPOINT_COMPRESSED, EIGHT_TORSION};
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    /// The numbers at or above p = 2^255 - 19 that 255 bits hold, each with either sign bit.
    fn at_least_p() -> impl Iterator<Item = [u8; 32]> {
        (0xed..=0xff).flat_map(|lowest| {
            [0x7f, 0xff].map(|highest| {
                let mut bytes = [0xff; 32];
                (bytes[0], bytes[31]) = (lowest, highest);
                bytes
            })
        })
    }

    #[test]
    fn each_encoding_of_small_order_is_refused() {
        let canonical = EIGHT_TORSION.map(|point| point.compress().to_bytes());
        // The sign of x = 0, for y = 1 and y = -1.
        let mut signed = [canonical[0], canonical[4]];
        for bytes in &mut signed {
            bytes[31] |= 0x80;
        }
        let mut count = 0;
        for bytes in canonical.into_iter().chain(signed).chain(at_least_p()) {
            let Some(point) = CompressedEdwardsY(bytes).decompress() else {
                continue;
            };
            if point.is_small_order() {
                count += 1;
                let refused = PublicKey::from_base64(&STANDARD.encode(bytes));
                assert_eq!(refused, Err(BadKey::SmallOrder), "{bytes:02x?}");
            }
        }
        // Eight points, and six encodings beside theirs: 1 and -1 with the sign of x = 0, and p
        // and p + 1 with either sign.
        assert_eq!(count, 14);
    }

    #[test]
    fn no_number_at_or_above_p_is_a_key() {
        for bytes in at_least_p() {
            let refused = PublicKey::from_base64(&STANDARD.encode(bytes));
            assert!(refused.is_err(), "{bytes:02x?}");
        }
        // y = 2 is not a point of the curve.
        let mut two = [0; 32];
        two[0] = 2;
        for (bytes, expected) in [
            (&two[..], Err(BadKey::NotCanonical)),
            (&[0; 31], Err(BadKey::Encoding)),
            (&[0; 33], Err(BadKey::Encoding)),
            (
                ED25519_BASEPOINT_COMPRESSED.as_bytes(),
                Ok(PublicKey(ED25519_BASEPOINT_COMPRESSED.to_bytes())),
            ),
        ] {
            assert_eq!(PublicKey::from_base64(&STANDARD.encode(bytes)), expected);
        }
    }

    fn check(signature: &[u8], body: &[u8], key: PublicKey) -> SignatureCheck {
        let value = HeaderValue::from_str(&STANDARD.encode(signature)).unwrap();
        verify(&HeaderMap::from_iter([(SIGNATURE, value)]), body, key)
    }

    #[test]
    fn a_signature_has_one_form() {
        // The order of the group, RFC 8032 section 5.1, little-endian.
        const ORDER: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key = PublicKey::from_bytes(pair.public_key().as_ref()).unwrap();
        let signature = pair.sign(&sha256(b"body")).as_ref().to_vec();
        assert_eq!(check(&signature, b"body", key), SignatureCheck::Valid);
        assert_eq!(check(&signature, b"other", key), SignatureCheck::Wrong);

        let mut malleable = signature.clone();
        let mut carry = 0;
        for (byte, add) in malleable[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            [*byte, _] = sum.to_le_bytes();
            carry = sum >> 8;
        }
        assert_eq!(check(&malleable, b"body", key), SignatureCheck::Wrong);
        for odd in [&signature[..63], &[&signature[..], &[0]].concat(), &[]] {
            assert_eq!(check(odd, b"body", key), SignatureCheck::Wrong);
        }
    }

    /// Nobody needs a private key to make these signatures.
    #[test]
    fn a_key_of_small_order_that_is_pinned_already_verifies_nothing() {
        for point in EIGHT_TORSION {
            let key = PublicKey(point.compress().to_bytes());
            for r in EIGHT_TORSION {
                let signature = [r.compress().to_bytes(), [0; 32]].concat();
                assert_eq!(check(&signature, b"body", key), SignatureCheck::Wrong);
            }
        }
    }
}
