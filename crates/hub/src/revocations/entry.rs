//! One line of the file of revocations.
//!
//! A line is a JSON object. Its last member is `sig`, the signature over all bytes of the line before
//! that member. The member `prev` is the SHA-256 of the line before, so that no line can be removed
//! from the middle.

use crate::clock::{Millis, parse_rfc3339, rfc3339};
use crate::receipt::TENANT;
use crate::receipt_key::ReceiptKeys;
use crate::secret::sha256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The prefix of the signed bytes, so that no signature of a receipt is one of a line.
const DOMAIN: &[u8] = b"monsys-revocation-v1\0";
const SIGNATURE: &[u8] = b",\"sig\":\"";
const END: &[u8] = b"\"}";
/// 64 bytes in base64url without padding.
const SIGNATURE_LENGTH: usize = 86;

/// The statement of a line. A hub does not start on a kind that it does not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Entry {
    /// The first line. `complete` is false where an earlier file may have been lost.
    Begin { complete: bool },
    /// The operator has accepted that an earlier file is lost.
    LostAccepted,
    /// An operator has deleted the agent.
    AgentDeleted {
        agent_id: Uuid,
        /// The SHA-256 of its public key in hexadecimal, if it ever had one.
        key: Option<String>,
    },
    /// An operator allows a deleted agent again.
    AgentAllowed { agent_id: Uuid },
    /// The agent has unenrolled by itself: its key is free, but its receipts are not valid.
    AgentUnenrolled {
        agent_id: Uuid,
        #[serde(with = "moment")]
        before: Millis,
    },
    /// An operator has unpinned the agent's key. Receipts from before that are not valid.
    KeyUnpinned {
        agent_id: Uuid,
        /// The SHA-256 of the unpinned key in hexadecimal.
        key: Option<String>,
        #[serde(with = "moment")]
        before: Millis,
    },
    /// An operator has revoked an enrolment token.
    TokenRevoked { token_id: Uuid },
}

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    entry: Entry,
    tenant: String,
    #[serde(with = "moment")]
    at: Millis,
    kid: String,
    prev: Option<String>,
}

/// A line that was parsed.
pub(super) struct Parsed {
    pub(super) entry: Entry,
    pub(super) at: Millis,
    /// The hash of the line before, in hexadecimal; none in the first line.
    pub(super) prev: Option<String>,
}

/// Returns the line of an entry, without a line break.
pub(super) fn write(
    entry: &Entry,
    at: Millis,
    prev: Option<String>,
    keys: &ReceiptKeys,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(&Line {
        entry: entry.clone(),
        tenant: TENANT.to_owned(),
        at,
        kid: keys.kid().to_owned(),
        prev,
    })?;
    line.pop();
    let signature = URL_SAFE_NO_PAD.encode(keys.sign(&[DOMAIN, &line].concat()));
    line.extend([SIGNATURE, signature.as_bytes(), END].concat());
    Ok(line)
}

/// Verifies and parses a line, in this order. The error is a cause for the operator.
pub(super) fn parse(line: &[u8], keys: &ReceiptKeys) -> Result<Parsed, String> {
    let signed_by_none = || "no receipt key that is given has signed it".to_owned();
    let split = || {
        let body = line.strip_suffix(END)?;
        let (body, signature) = body.split_at_checked(body.len().checked_sub(SIGNATURE_LENGTH)?)?;
        Some((body.strip_suffix(SIGNATURE)?, signature))
    };
    let (body, signature) = split().ok_or("it has no signature at its end")?;
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| signed_by_none())?;
    if !keys.verify(&[DOMAIN, body].concat(), &signature) {
        return Err(signed_by_none());
    }
    let line: Line = serde_json::from_slice(&[body, b"}"].concat())
        .map_err(|cause| format!("this version of the hub does not know what it says ({cause})"))?;
    Ok(Parsed {
        entry: line.entry,
        at: line.at,
        prev: line.prev,
    })
}

/// Returns the hash of a line by which the next one names it.
pub(super) fn hash(line: &[u8]) -> String {
    HEXLOWER.encode(&sha256(line))
}

/// Times in RFC 3339, to the millisecond.
mod moment {
    use super::{Millis, parse_rfc3339, rfc3339};
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(
        moment: &Millis,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(*moment))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Millis, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_rfc3339(&text).ok_or_else(|| D::Error::custom("a time that is not RFC 3339"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(seed: u8) -> ReceiptKeys {
        ReceiptKeys::from_seeds(&[[seed; 32]]).unwrap()
    }

    #[test]
    fn a_line_reads_as_it_was_written() {
        let agent_id = Uuid::from_u128(7);
        let key = Some("00".repeat(32));
        for entry in [
            Entry::Begin { complete: true },
            Entry::LostAccepted,
            Entry::AgentDeleted {
                agent_id,
                key: key.clone(),
            },
            Entry::AgentAllowed { agent_id },
            Entry::AgentUnenrolled {
                agent_id,
                before: 1_772_366_400_251,
            },
            Entry::KeyUnpinned {
                agent_id,
                key,
                before: 1_772_366_400_251,
            },
            Entry::TokenRevoked { token_id: agent_id },
        ] {
            let prev = Some(hash(b"before"));
            let line = write(&entry, 5, prev.clone(), &keys(1)).unwrap();
            let parsed = parse(&line, &keys(1)).unwrap();
            assert_eq!((parsed.entry, parsed.at, parsed.prev), (entry, 5, prev));
            let cause = parse(&line, &keys(2)).err().unwrap();
            assert!(cause.contains("receipt key"), "{cause}");
        }
    }

    #[test]
    fn a_kind_of_tomorrow_is_refused() {
        let body = br#"{"kind":"rule_revoked","tenant":"default","at":"2026-03-01T12:00:00Z","kid":"","prev":null"#;
        let signature = URL_SAFE_NO_PAD.encode(keys(1).sign(&[DOMAIN, body].concat()));
        let line = [body, SIGNATURE, signature.as_bytes(), END].concat();
        let cause = parse(&line, &keys(1)).err().unwrap();
        assert!(cause.contains("rule_revoked"), "{cause}");
    }

    proptest! {
        #[test]
        fn a_changed_line_is_refused(at in 0usize..1000, to in any::<u8>()) {
            let line = write(&Entry::LostAccepted, 5, None, &keys(1)).unwrap();
            let at = at % line.len();
            let mut changed = line.clone();
            changed[at] = to;
            prop_assert_eq!(parse(&changed, &keys(1)).is_ok(), changed == line);
            prop_assert!(parse(&line[..at], &keys(1)).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse(&line, &keys(1)).is_err());
        }
    }
}
