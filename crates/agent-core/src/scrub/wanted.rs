//! What is looked for: a secret that is known, one that is known by its hash alone, or anything that
//! has the form of an enrolment token.

use std::fmt;

use memchr::memmem::{self, Finder};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::token::Secret;

/// What every enrolment token begins with; it stays, so that a reader sees what was there.
const PREFIX: &[u8] = b"enrl_";
/// What stands in the place of the rest.
pub(super) const FILLER: u8 = b'x';
/// With fewer characters behind the prefix, it may be a word about a token, and is not changed.
const TAIL_OF_TOKEN: usize = 16;
/// With fewer, it is no token.
const TAIL_OF_SUSPECT: usize = 8;
/// A secret of fewer bytes is not looked for: it would be found in what is none.
pub const SHORTEST: usize = 8;
/// A prime below 2^31: sums of rolling hashes are taken modulo this, and fit into 64 bits.
const MODULUS: u64 = 2_147_483_647;

/// What is to be found, and to be blotted out.
#[derive(Default)]
pub struct Wanted {
    secrets: Vec<(Finder<'static>, Zeroizing<Vec<u8>>)>,
    hashes: Vec<Hashed>,
    /// Anything that has the form of a token counts, with so many characters behind the prefix.
    shortest_tail: Option<usize>,
}

/// A secret that is known by its length and its hash under a random key. It is recognised, and cannot
/// be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashed {
    /// In bytes.
    length: usize,
    /// Of the rolling hash; below [`MODULUS`].
    base: u64,
    /// The low 16 bits of the rolling hash: enough to pass over nearly all places, and too little to tell
    /// much of the secret.
    sum: u16,
    /// Of the HMAC.
    key: [u8; 32],
    /// HMAC-SHA-256 of the secret.
    mac: [u8; 32],
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wanted")
            .field("secrets", &self.secrets.len())
            .field("hashes", &self.hashes.len())
            .field("shortest_tail", &self.shortest_tail)
            .finish()
    }
}

impl Wanted {
    /// A secret that is known. One of less than [`SHORTEST`] bytes is not looked for.
    #[must_use]
    pub fn secret(secret: &str) -> Self {
        Self::default().and_secret(secret)
    }

    /// Anything that has the form of an enrolment token, and was not scrubbed.
    #[must_use]
    pub fn any_token() -> Self {
        Self {
            shortest_tail: Some(TAIL_OF_TOKEN),
            ..Self::default()
        }
    }

    /// Anything that may be an enrolment token: for those who only look.
    #[must_use]
    pub fn any_suspect() -> Self {
        Self {
            shortest_tail: Some(TAIL_OF_SUSPECT),
            ..Self::default()
        }
    }

    /// A secret more.
    #[must_use]
    pub fn and_secret(mut self, secret: &str) -> Self {
        if secret.len() >= SHORTEST {
            let secret = Zeroizing::new(secret.as_bytes().to_vec());
            self.secrets
                .push((Finder::new(secret.as_slice()).into_owned(), secret));
        }
        self
    }

    /// A secret more, of which only the hash is known.
    #[must_use]
    pub fn and_hashed(mut self, hashed: Hashed) -> Self {
        if hashed.length >= SHORTEST && hashed.length <= super::LONGEST_SECRET {
            self.hashes.push(hashed);
        }
        self
    }

    /// Whether there is anything to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.hashes.is_empty() && self.shortest_tail.is_none()
    }

    /// Whether `secret` itself would be found.
    #[must_use]
    pub fn finds(&self, secret: &str) -> bool {
        self.blot_out(&mut Zeroizing::new(secret.as_bytes().to_vec())) > 0
    }

    /// The fewest bytes that what is looked for can have.
    pub(super) fn shortest(&self) -> usize {
        let shape = self.shortest_tail.map(|tail| PREFIX.len() + tail);
        let secrets = self.secrets.iter().map(|(_, secret)| secret.len());
        let hashes = self.hashes.iter().map(|hashed| hashed.length);
        let lengths = secrets.chain(hashes).chain(shape);
        lengths.min().unwrap_or(SHORTEST).max(SHORTEST)
    }

    /// Blots out what is found in `bytes`; returns how often it was there.
    pub(super) fn blot_out(&self, bytes: &mut [u8]) -> usize {
        let by_form = self
            .shortest_tail
            .map_or(0, |shortest| blot_out_form(bytes, shortest));
        by_form + self.blot_out_exact(bytes)
    }

    /// Whether a form is looked for.
    pub(super) const fn has_forms(&self) -> bool {
        self.shortest_tail.is_some()
    }

    /// Whether anything in `bytes` has the form that is looked for.
    pub(super) fn has_form(&self, bytes: &[u8]) -> bool {
        self.shortest_tail.is_some_and(|shortest| {
            blot_out_form(&mut Zeroizing::new(bytes.to_vec()), shortest) > 0
        })
    }

    /// As [`Wanted::blot_out`], only what is known to its last byte.
    pub(super) fn blot_out_exact(&self, bytes: &mut [u8]) -> usize {
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
            count += hashed.blot_out(bytes);
        }
        count
    }
}

/// Blots out each thing that has the form of a token.
fn blot_out_form(bytes: &mut [u8], shortest: usize) -> usize {
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
    /// Of `secret`, under a key that is new; `None` for a secret that is too short to be looked for, or
    /// where there is no randomness.
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

    fn blot_out(&self, bytes: &mut [u8]) -> usize {
        let base = self.base % MODULUS;
        let mut leading = 1;
        for _ in 1..self.length {
            leading = leading * base % MODULUS;
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.key);
        let (mut count, mut sum, mut held) = (0, 0, 0);
        let mut end = 0;
        while let Some(byte) = bytes.get(end).copied() {
            if held == self.length {
                let first = u64::from(bytes[end - self.length]) * leading % MODULUS;
                sum = (sum + MODULUS - first) % MODULUS;
                held -= 1;
            }
            sum = rolled(sum, base, byte);
            held += 1;
            end += 1;
            let is_near = held == self.length && low_bits(sum) == self.sum;
            if is_near && hmac::verify(&key, &bytes[end - held..end], &self.mac).is_ok() {
                bytes[end - held..end].fill(FILLER);
                (sum, held) = (0, 0);
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
    fn expect(wanted: &Wanted, text: &str, after: &str, count: usize) {
        let mut bytes = text.as_bytes().to_vec();
        assert_eq!(wanted.blot_out(&mut bytes), count, "{text}");
        assert_eq!(String::from_utf8(bytes).unwrap(), after);
    }

    #[test]
    fn a_secret_known_by_its_hash_is_found_wherever_it_is() {
        let wanted = Wanted::default().and_hashed(hashed("s3cr3t-of-mimir"));
        expect(&wanted, "s3cr3t-of-mimir", "xxxxxxxxxxxxxxx", 1);
        expect(
            &wanted,
            "as3cr3t-of-mimirs3cr3t-of-mimir.s3cr3t-of-mimix",
            "axxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.s3cr3t-of-mimix",
            2,
        );
        expect(&wanted, "", "", 0);
    }

    #[test]
    fn a_hash_is_written_down_without_the_secret() {
        let hashed = hashed("s3cr3t-of-mimir");
        let json = serde_json::to_string(&hashed).unwrap();
        assert!(!json.contains("mimir"));
        assert_eq!(serde_json::from_str::<Hashed>(&json).unwrap(), hashed);
    }

    #[test]
    fn the_form_of_a_token_is_enough_and_a_word_about_one_is_not() {
        let wanted = Wanted::any_token();
        let text = "enrl_0123456789abcdef, enrl_token_name, enrl_xxxxxxxxxxxxxxxxxxxx, enrl_";
        let after = "enrl_xxxxxxxxxxxxxxxx, enrl_token_name, enrl_xxxxxxxxxxxxxxxxxxxx, enrl_";
        expect(&wanted, text, after, 1);
    }

    #[test]
    fn a_secret_without_the_prefix_goes_whole() {
        expect(
            &Wanted::secret("INSTALL-me-now"),
            "=INSTALL-me-now",
            "=xxxxxxxxxxxxxx",
            1,
        );
        expect(
            &Wanted::secret("enrl_abcdefgh"),
            "enrl_abcdefghi",
            "enrl_xxxxxxxxi",
            1,
        );
        assert!(Wanted::secret("short").is_empty());
    }
}
