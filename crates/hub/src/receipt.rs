//! Receipts: what a hub has signed about an agent, so that a hub without its database can take the
//! agent back. A receipt is not a secret: it is worth nothing without the agent's signing key.

use crate::clock::Millis;
use crate::receipt_key::ReceiptKeys;
use crate::secret::sha256;
use crate::signature::PublicKey;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_encoding::HEXLOWER;
use rusqlite::{OptionalExtension as _, Savepoint, named_params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The most bytes of a receipt. One with 64 tags of 128 characters of four bytes fits.
pub(crate) const MAX_LENGTH: usize = 64 << 10;
/// The tenant of all tokens and agents, as long as there is only one.
pub(crate) const TENANT: &str = "default";

const VERSION: &str = "v1";
/// 90 days.
const VALIDITY: Millis = 90 * 24 * 60 * 60 * 1000;

/// The signed part of a receipt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// The origin of the hub.
    pub(crate) iss: String,
    pub(crate) tenant: String,
    pub(crate) agent_id: Uuid,
    /// The SHA-256 of the agent's public key, in hexadecimal.
    pub(crate) key: String,
    /// The id of the token that has admitted the agent.
    pub(crate) admitted_by: Option<String>,
    /// The default tags of that token, and not the host's own.
    pub(crate) tags: Vec<String>,
    /// The default role of that token.
    pub(crate) role: Option<String>,
    pub(crate) fingerprint: Option<String>,
    /// In seconds since 1970, to the millisecond (RFC 7519 section 2, `NumericDate`).
    iat: f64,
    exp: f64,
}

impl Receipt {
    /// Makes the receipt of an agent.
    pub(crate) fn new(agent: Subject<'_>, issued_at: Millis) -> Self {
        Self {
            iss: agent.iss,
            tenant: TENANT.to_owned(),
            agent_id: agent.agent_id,
            key: key_hash(agent.key),
            admitted_by: agent.admitted_by.map(str::to_owned),
            tags: agent.default_tags.to_vec(),
            role: agent.default_role.map(str::to_owned),
            fingerprint: fingerprint(agent.facts).map(str::to_owned),
            iat: seconds(issued_at),
            exp: seconds(issued_at.saturating_add(VALIDITY)),
        }
    }

    /// Returns the moment at which the receipt was made.
    pub(crate) fn issued_at(&self) -> Millis {
        millis(self.iat)
    }

    /// Returns the moment from which the receipt is not valid any more.
    pub(crate) fn expires_at(&self) -> Millis {
        millis(self.exp)
    }

    /// Returns the receipt on the wire: `v1.KID.PAYLOAD.SIG`.
    pub(crate) fn sign(&self, keys: &ReceiptKeys) -> Result<String, serde_json::Error> {
        Ok(sign_payload(&serde_json::to_vec(self)?, keys))
    }

    /// Parses a receipt that one of the keys has signed. The signature is verified before anything
    /// that it covers is parsed, and its length before anything at all.
    pub(crate) fn parse(text: &str, keys: &ReceiptKeys) -> Option<Self> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (kid, payload) = signed
            .strip_prefix(VERSION)?
            .strip_prefix('.')?
            .split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        if !keys.verify_by(kid, signed.as_bytes(), &signature) {
            return None;
        }
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }
}

/// Returns `v1.KID.PAYLOAD.SIG` of a payload.
pub(crate) fn sign_payload(payload: &[u8], keys: &ReceiptKeys) -> String {
    let payload = URL_SAFE_NO_PAD.encode(payload);
    let signed = format!("{VERSION}.{}.{payload}", keys.kid());
    let signature = URL_SAFE_NO_PAD.encode(keys.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// The agent that a receipt is about.
pub(crate) struct Subject<'a> {
    pub(crate) iss: String,
    pub(crate) agent_id: Uuid,
    pub(crate) key: PublicKey,
    pub(crate) admitted_by: Option<&'a str>,
    pub(crate) default_tags: &'a [String],
    pub(crate) default_role: Option<&'a str>,
    pub(crate) facts: &'a Value,
}

/// Returns the SHA-256 of a public key, in hexadecimal.
pub(crate) fn key_hash(key: PublicKey) -> String {
    HEXLOWER.encode(&sha256(key.as_bytes()))
}

/// Returns the fingerprint among the facts of a host.
pub(crate) fn fingerprint(facts: &Value) -> Option<&str> {
    facts.get("machine_fingerprint")?.as_str()
}

/// Returns the time for a new receipt of the agent, and stores it.
///
/// Receipts before a certain moment are refused once an agent's key was replaced. The time of a new
/// one is never before that moment, even if somebody has set the hub's clock back.
pub(crate) fn issue(
    savepoint: &Savepoint<'_>,
    agent_id: Uuid,
    now: Millis,
) -> rusqlite::Result<Option<Millis>> {
    let issued_at: Option<Millis> = savepoint
        .prepare_cached(
            "SELECT max(:now, coalesce(
                (SELECT refused_before FROM receipt_floors WHERE agent_id = :id), 0))
               FROM agents WHERE id = :id",
        )?
        .query_row(
            named_params! {":id": agent_id.to_string(), ":now": now},
            |row| row.get(0),
        )
        .optional()?;
    savepoint
        .prepare_cached(
            "UPDATE agents SET receipt_at = max(coalesce(receipt_at, 0), :at) WHERE id = :id",
        )?
        .execute(named_params! {":id": agent_id.to_string(), ":at": issued_at})?;
    Ok(issued_at)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "2^53 milliseconds are far beyond the year 9999"
)]
fn seconds(millis: Millis) -> f64 {
    millis as f64 / 1000.0
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "`as` saturates, and a number that is not one becomes 0"
)]
fn millis(seconds: f64) -> Millis {
    (seconds * 1000.0).round() as Millis
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn keys(seed: u8) -> ReceiptKeys {
        ReceiptKeys::from_seeds(&[[seed; 32]]).unwrap()
    }

    fn receipt(issued_at: Millis) -> Receipt {
        let facts = json!({"machine_fingerprint": "00ff"});
        let subject = Subject {
            iss: "https://hub.example.com".to_owned(),
            agent_id: Uuid::from_u128(7),
            key: PublicKey::from_bytes(&[9; 32]).unwrap(),
            admitted_by: Some("token"),
            default_tags: &["prod".to_owned()],
            default_role: None,
            facts: &facts,
        };
        Receipt::new(subject, issued_at)
    }

    #[test]
    fn a_receipt_reads_as_it_was_made() {
        let made = receipt(1_772_366_400_251);
        let text = made.sign(&keys(1)).unwrap();
        let parts: Vec<&str> = text.split('.').collect();
        assert_eq!((parts.len(), parts[0], parts[1]), (4, "v1", keys(1).kid()));
        let payload: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[2]).unwrap()).unwrap();
        assert_eq!(payload["iat"], json!(1_772_366_400.251));
        assert_eq!(payload["exp"], json!(1_780_142_400.251));
        assert_eq!(payload["tenant"], "default");
        let read = Receipt::parse(&text, &keys(1)).unwrap();
        assert_eq!(read, made);
        assert_eq!(read.issued_at(), 1_772_366_400_251);
        assert_eq!(read.expires_at() - read.issued_at(), VALIDITY);
        assert_eq!(Receipt::parse(&text, &keys(2)), None, "another hub's key");
    }

    #[test]
    fn the_largest_receipt_is_accepted_and_a_longer_one_is_not() {
        let mut made = receipt(0);
        made.tags = vec!["\u{10ffff}".repeat(128); 64];
        made.role = Some("\u{10ffff}".repeat(128));
        made.fingerprint = Some("\u{1}".repeat(1024));
        let text = made.sign(&keys(1)).unwrap();
        assert!(text.len() <= MAX_LENGTH, "{}", text.len());
        assert_eq!(Receipt::parse(&text, &keys(1)), Some(made.clone()));
        made.fingerprint = Some("x".repeat(MAX_LENGTH));
        let text = made.sign(&keys(1)).unwrap();
        assert_eq!(Receipt::parse(&text, &keys(1)), None);
    }

    #[test]
    fn a_signed_payload_of_another_shape_is_refused() {
        for payload in ["", "{}", "[]", "null", "\u{fe}"] {
            let text = sign_payload(payload.as_bytes(), &keys(1));
            assert_eq!(Receipt::parse(&text, &keys(1)), None);
        }
    }

    proptest! {
        #[test]
        fn every_millisecond_is_kept(moment in 0i64..253_402_300_799_999) {
            prop_assert_eq!(millis(seconds(moment)), moment);
        }

        #[test]
        fn a_changed_receipt_is_refused(at in 0usize..400, to in "[ -~]") {
            let text = receipt(1_772_366_400_251).sign(&keys(1)).unwrap();
            let at = at % text.len();
            let mut changed = text.clone();
            changed.replace_range(at..=at, &to);
            prop_assert_eq!(Receipt::parse(&changed, &keys(1)).is_some(), changed == text);
            prop_assert_eq!(Receipt::parse(&text[..at], &keys(1)), None);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}", payload in "(v1\\.)?.{0,20}\\.?.{0,20}\\.?.{0,20}") {
            prop_assert_eq!(Receipt::parse(&text, &keys(1)), None);
            prop_assert_eq!(Receipt::parse(&payload, &keys(1)), None);
        }
    }
}
