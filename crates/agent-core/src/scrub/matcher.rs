//! The search for a known secret, for a secret that is known only by its hash, or for any text with the
//! form of an enrolment token.

use std::fmt;

use memchr::memmem::{self, Finder};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::token::Secret;

/// The prefix of every enrolment token. The prefix stays, so that a reader sees that a token was there.
const PREFIX: &[u8] = b"enrl_";
/// The byte that replaces the rest of a secret.
pub(super) const FILLER: u8 = b'x';
/// The fewest characters after the prefix of a token that is changed: a shorter text may be a word about
/// tokens.
const TAIL_OF_TOKEN: usize = 16;
/// The fewest characters after the prefix of a possible token.
const TAIL_OF_SUSPECT: usize = 8;
/// The shortest secret that is searched, in bytes: a shorter secret would match other text.
pub const SHORTEST: usize = 8;
/// The modulus of the rolling hashes: a prime below 2^31, so that the sums fit into 64 bits.
const MODULUS: u64 = 2_147_483_647;

/// The secrets and forms that are searched and masked.
#[derive(Default)]
pub struct SecretMatcher {
    secrets: Vec<(Finder<'static>, Zeroizing<Vec<u8>>)>,
    hashes: Vec<Hashed>,
    /// The fewest characters after the prefix, if any text with the form of a token counts.
    shortest_tail: Option<usize>,
}

/// A secret that is known only by its length and its hash under a random key. The secret can be recognised,
/// but not computed from the hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashed {
    /// The length of the secret, in bytes.
    length: usize,
    /// The base of the rolling hash, below [`MODULUS`].
    base: u64,
    /// The low 16 bits of the rolling hash: enough to skip nearly all other text, and too few to reveal
    /// much of the secret.
    sum: u16,
    /// The key of the HMAC.
    key: [u8; 32],
    /// HMAC-SHA-256 of the secret.
    mac: [u8; 32],
}

impl fmt::Debug for SecretMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretMatcher")
            .field("secrets", &self.secrets.len())
            .field("hashes", &self.hashes.len())
            .field("shortest_tail", &self.shortest_tail)
            .finish()
    }
}

impl SecretMatcher {
    /// Matches a known secret. A secret of less than [`SHORTEST`] bytes is never matched.
    #[must_use]
    pub fn secret(secret: &str) -> Self {
        Self::default().and_secret(secret)
    }

    /// Matches any text with the form of an enrolment token that is not masked.
    #[must_use]
    pub fn any_token() -> Self {
        Self {
            shortest_tail: Some(TAIL_OF_TOKEN),
            ..Self::default()
        }
    }

    /// Matches any possible enrolment token, for a search without changes.
    #[must_use]
    pub fn any_suspect() -> Self {
        Self {
            shortest_tail: Some(TAIL_OF_SUSPECT),
            ..Self::default()
        }
    }

    /// Adds a known secret.
    #[must_use]
    pub fn and_secret(mut self, secret: &str) -> Self {
        if secret.len() >= SHORTEST {
            let secret = Zeroizing::new(secret.as_bytes().to_vec());
            self.secrets
                .push((Finder::new(secret.as_slice()).into_owned(), secret));
        }
        self
    }

    /// Adds a secret of which only the hash is known.
    #[must_use]
    pub fn and_hashed(mut self, hashed: Hashed) -> Self {
        if hashed.length >= SHORTEST && hashed.length <= super::LONGEST_SECRET {
            self.hashes.push(hashed);
        }
        self
    }

    /// Returns true when nothing would match.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.hashes.is_empty() && self.shortest_tail.is_none()
    }

    /// Returns true when `secret` would match.
    #[must_use]
    pub fn finds(&self, secret: &str) -> bool {
        self.mask(&mut Zeroizing::new(secret.as_bytes().to_vec())) > 0
    }

    /// Returns the length of the shortest possible match, in bytes.
    pub(super) fn shortest(&self) -> usize {
        let shape = self.shortest_tail.map(|tail| PREFIX.len() + tail);
        let secrets = self.secrets.iter().map(|(_, secret)| secret.len());
        let hashes = self.hashes.iter().map(|hashed| hashed.length);
        let lengths = secrets.chain(hashes).chain(shape);
        lengths.min().unwrap_or(SHORTEST).max(SHORTEST)
    }

    /// Masks all matches in `bytes`; returns their number.
    pub(super) fn mask(&self, bytes: &mut [u8]) -> usize {
        let by_form = self
            .shortest_tail
            .map_or(0, |shortest| mask_form(bytes, shortest));
        by_form + self.mask_exact(bytes)
    }

    /// Returns true when texts match by their form.
    pub(super) const fn has_forms(&self) -> bool {
        self.shortest_tail.is_some()
    }

    /// Returns true when a text in `bytes` matches by its form.
    pub(super) fn has_form(&self, bytes: &[u8]) -> bool {
        self.shortest_tail
            .is_some_and(|shortest| mask_form(&mut Zeroizing::new(bytes.to_vec()), shortest) > 0)
    }

    /// Masks known secrets only, as [`SecretMatcher::mask`] does.
    pub(super) fn mask_exact(&self, bytes: &mut [u8]) -> usize {
        let mut count = 0;
        for (finder, secret) in &self.secrets {
            let kept = if secret.starts_with(PREFIX) {
                PREFIX.len()
            } else {
                0
            };
            let mut at = 0;
            while let Some(next) = finder.find(&bytes[at..]) {
                let end = at + next + secret.len();
                bytes[at + next + kept..end].fill(FILLER);
                at = end;
                count += 1;
            }
        }
        for hashed in &self.hashes {
            count += hashed.mask(bytes);
        }
        count
    }
}

/// Masks each text with the form of a token.
fn mask_form(bytes: &mut [u8], shortest: usize) -> usize {
    let mut count = 0;
    let mut at = 0;
    while let Some(next) = memmem::find(&bytes[at..], PREFIX) {
        let begin = at + next + PREFIX.len();
        let is_of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
        let length = bytes[begin..]
            .iter()
            .take_while(|byte| is_of_token(byte))
            .count();
        let tail = &mut bytes[begin..begin + length];
        if length >= shortest && tail.iter().any(|byte| *byte != FILLER) {
            tail.fill(FILLER);
            count += 1;
        }
        at = begin + length;
    }
    count
}

impl Hashed {
    /// Hashes `secret` with a new key. Returns `None` for a secret that is too short or too long to be
    /// searched, or when the system has no random numbers.
    #[must_use]
    pub fn of(secret: &Secret) -> Option<Self> {
        let secret = secret.expose_secret().as_bytes();
        if !(SHORTEST..=super::LONGEST_SECRET).contains(&secret.len()) {
            return None;
        }
        let (mut key, mut seed) = ([0; 32], [0; 4]);
        let random = SystemRandom::new();
        random.fill(&mut key).ok()?;
        random.fill(&mut seed).ok()?;
        let base = 256 + u64::from(u32::from_le_bytes(seed)) % (MODULUS - 256);
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), secret);
        Some(Self {
            length: secret.len(),
            base,
            sum: low_bits(secret.iter().fold(0, |sum, byte| rolled(sum, base, *byte))),
            key,
            mac: mac.as_ref().try_into().ok()?,
        })
    }

    fn mask(&self, bytes: &mut [u8]) -> usize {
        let base = self.base % MODULUS;
        let mut leading = 1;
        for _ in 1..self.length {
            leading = leading * base % MODULUS;
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.key);
        let (mut count, mut sum, mut length) = (0, 0, 0);
        let mut end = 0;
        while let Some(byte) = bytes.get(end).copied() {
            if length == self.length {
                let first = u64::from(bytes[end - self.length]) * leading % MODULUS;
                sum = (sum + MODULUS - first) % MODULUS;
                length -= 1;
            }
            sum = rolled(sum, base, byte);
            length += 1;
            end += 1;
            let is_near = length == self.length && low_bits(sum) == self.sum;
            if is_near && hmac::verify(&key, &bytes[end - length..end], &self.mac).is_ok() {
                bytes[end - length..end].fill(FILLER);
                (sum, length) = (0, 0);
                count += 1;
            }
        }
        count
    }
}

fn rolled(sum: u64, base: u64, byte: u8) -> u64 {
    (sum * base + u64::from(byte)) % MODULUS
}

fn low_bits(sum: u64) -> u16 {
    u16::try_from(sum & 0xffff).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Token;

    fn hashed(secret: &str) -> Hashed {
        let token = Token::shared(secret, &"a test").unwrap();
        Hashed::of(token.secret()).unwrap()
    }

    #[track_caller]
    fn expect(matcher: &SecretMatcher, text: &str, after: &str, count: usize) {
        let mut bytes = text.as_bytes().to_vec();
        assert_eq!(matcher.mask(&mut bytes), count, "{text}");
        assert_eq!(String::from_utf8(bytes).unwrap(), after);
    }

    #[test]
    fn a_secret_known_by_its_hash_is_found_at_each_place() {
        let matcher = SecretMatcher::default().and_hashed(hashed("s3cr3t-of-mimir"));
        expect(&matcher, "s3cr3t-of-mimir", "xxxxxxxxxxxxxxx", 1);
        expect(
            &matcher,
            "as3cr3t-of-mimirs3cr3t-of-mimir.s3cr3t-of-mimix",
            "axxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.s3cr3t-of-mimix",
            2,
        );
        expect(&matcher, "", "", 0);
    }

    #[test]
    fn a_serialised_hash_does_not_contain_the_secret() {
        let hashed = hashed("s3cr3t-of-mimir");
        let json = serde_json::to_string(&hashed).unwrap();
        assert!(!json.contains("mimir"));
        assert_eq!(serde_json::from_str::<Hashed>(&json).unwrap(), hashed);
    }

    #[test]
    fn a_text_with_the_form_of_a_token_matches_and_a_short_word_does_not() {
        let matcher = SecretMatcher::any_token();
        let text = "enrl_0123456789abcdef, enrl_token_name, enrl_xxxxxxxxxxxxxxxxxxxx, enrl_";
        let after = "enrl_xxxxxxxxxxxxxxxx, enrl_token_name, enrl_xxxxxxxxxxxxxxxxxxxx, enrl_";
        expect(&matcher, text, after, 1);
    }

    #[test]
    fn a_secret_without_the_prefix_is_masked_completely() {
        expect(
            &SecretMatcher::secret("INSTALL-me-now"),
            "=INSTALL-me-now",
            "=xxxxxxxxxxxxxx",
            1,
        );
        expect(
            &SecretMatcher::secret("enrl_abcdefgh"),
            "enrl_abcdefghi",
            "enrl_xxxxxxxxi",
            1,
        );
        assert!(SecretMatcher::secret("short").is_empty());
    }
}
