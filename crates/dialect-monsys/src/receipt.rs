//! The hub's receipt of an admission: a text that a hub can verify after it has lost its database.
//!
//! The receipt is `v1.KID.PAYLOAD.SIG`, with a payload of base64url JSON (contract, section 10). Only the hub
//! can verify it. The host reads from the payload only whose receipt it is and how old it is. It is not a secret:
//! without the host's key it admits nobody.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use uuid::Uuid;

use agent_core::clock;
use agent_core::hex;
use agent_core::store::safe_read;

/// Name of the file in the state directory.
pub const FILE: &str = "receipt";
/// Age at which the host fetches a new receipt. The hub accepts a receipt for 90 days.
pub const RENEWAL_AGE: Duration = Duration::from_hours(30 * 24);
/// Largest receipt, in bytes: one with 64 tags of 128 characters of four bytes fits.
pub const MAX_BYTES: usize = 64 * 1024;
/// Shortest interval between two writes of receipts that differ only in their times.
const WRITE_INTERVAL: Duration = Duration::from_hours(24);

/// A receipt of the hub.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    text: String,
    claims: Map<String, Value>,
}

impl Receipt {
    /// Parses a receipt. Returns `None` for a text of another form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if text.len() > MAX_BYTES || !text.bytes().all(is_plain) {
            return None;
        }
        let mut parts = text.split('.');
        let (version, _kid, payload, signature) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version != "v1" || signature.is_empty() || parts.next().is_some() {
            return None;
        }
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        Some(Self {
            text: text.to_owned(),
            claims: serde_json::from_slice(&payload).ok()?,
        })
    }

    /// Reads the receipt of the state directory. A missing or broken file gives `None`.
    #[must_use]
    pub fn load(state_dir: &Path) -> Option<Self> {
        let bytes = safe_read::own(&state_dir.join(FILE)).ok()?;
        Self::parse(std::str::from_utf8(&bytes).ok()?)
    }

    /// Returns the receipt as it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the agent that the receipt is for.
    #[must_use]
    pub fn agent_id(&self) -> Option<Uuid> {
        self.claims.get("agent_id")?.as_str()?.parse().ok()
    }

    /// Returns whether the receipt is for the holder of this public key (base64), which is what the hub checks.
    #[must_use]
    pub fn is_for(&self, public_key: &str) -> bool {
        let Ok(key) = STANDARD.decode(public_key) else {
            return false;
        };
        let digest = ring::digest::digest(&ring::digest::SHA256, &key);
        self.claims.get("key").and_then(Value::as_str) == Some(&hex::encode(digest.as_ref()))
    }

    /// Returns whether the receipt was issued so long ago that the host fetches a new one. A receipt from the
    /// future was issued by a wrong clock, or this host's clock is wrong: it is not old.
    #[must_use]
    pub fn is_old(&self, now: SystemTime) -> bool {
        self.is_older_than(RENEWAL_AGE, now)
    }

    /// Returns whether `self` is worth a write in the place of `before`: it says something else, or is newer by
    /// a day.
    #[must_use]
    pub fn replaces(&self, before: Option<&Self>, now: SystemTime) -> bool {
        let Some(before) = before else { return true };
        let lasting = |receipt: &Self| {
            let mut claims = receipt.claims.clone();
            claims.retain(|name, _| !matches!(name.as_str(), "iat" | "exp"));
            claims
        };
        lasting(self) != lasting(before) || before.is_older_than(WRITE_INTERVAL, now)
    }

    fn is_older_than(&self, age: Duration, now: SystemTime) -> bool {
        let issued = self.claims.get("iat").and_then(Value::as_f64);
        let issued = issued.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let now = clock::expressible(now).duration_since(UNIX_EPOCH);
        match (issued, now) {
            (Some(issued), Ok(now)) => now.saturating_sub(issued) > age,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn receipt(claims: &Value) -> Receipt {
        let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
        Receipt::parse(&format!("v1.0123456789abcdef.{payload}.c2ln\n")).unwrap()
    }

    #[test]
    fn a_text_of_another_form_is_not_a_receipt() {
        let payload = URL_SAFE_NO_PAD.encode("{}");
        for text in [
            String::new(),
            "v1".into(),
            format!("v2.kid.{payload}.sig"),
            format!("v1.kid.{payload}"),
            format!("v1.kid.{payload}."),
            format!("v1.kid.{payload}.sig.more"),
            format!("v1.kid.{payload}.s g"),
            format!("v1.kid.{payload}.sig\u{1b}"),
            format!("v1.kid.{}.sig", URL_SAFE_NO_PAD.encode("[]")),
            format!("v1.kid.{}.sig", "A".repeat(MAX_BYTES)),
            "v1.kid.!.sig".into(),
        ] {
            assert!(Receipt::parse(&text).is_none(), "{text:.80}");
        }
    }

    #[test]
    fn a_receipt_is_written_when_it_says_something_else_or_the_old_one_is_a_day_old() {
        let at = |seconds: u64| clock::of_1970(Duration::from_secs(seconds));
        let day = 86_400;
        let claims = |iat: u64, tags: &str| {
            receipt(
                &json!({"agent_id": "6f1c2a1e-8f0e-4a55-9a3c-0d8f5f3b7f10", "tags": [tags], "iat": iat, "exp": iat + 90 * day}),
            )
        };
        let old = claims(100 * day, "a");
        assert!(old.agent_id().is_some());
        assert!(claims(100 * day + 5, "a").replaces(None, at(100 * day + 5)));
        assert!(!claims(100 * day + 5, "a").replaces(Some(&old), at(100 * day + 5)));
        assert!(claims(100 * day + 5, "b").replaces(Some(&old), at(100 * day + 5)));
        assert!(claims(101 * day + 5, "a").replaces(Some(&old), at(101 * day + 5)));
        assert!(!old.is_old(at(130 * day)));
        assert!(old.is_old(at(130 * day + 1)));
        assert!(!old.is_old(at(day)), "the clock was set back");
    }

    proptest! {
        #[test]
        fn any_text_and_any_time_of_issue_are_read(text in "\\PC{0,200}", iat: f64, now: u32) {
            let _ = Receipt::parse(&text);
            let receipt = receipt(&json!({"iat": iat}));
            let now = clock::of_1970(Duration::from_secs(now.into()));
            prop_assert!(!receipt.replaces(Some(&receipt), now) || receipt.is_older_than(WRITE_INTERVAL, now));
        }
    }
}
