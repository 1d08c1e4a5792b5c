//! The scrubber under test, by its interface alone.
//!
//! The scrubber of today, as it were behind the interface of the next one, in whose commit this file
//! becomes `pub(crate) use monsys_agent::scrub::{Fate, Wanted, file};`.

use std::path::Path;

use monsys_agent::scrub::layers;

pub(crate) enum Wanted {
    Secret(String),
    AnyToken,
}

impl Wanted {
    pub(crate) fn secret(secret: &str) -> Self {
        Self::Secret(secret.to_owned())
    }

    pub(crate) fn any_token() -> Self {
        Self::AnyToken
    }
}

#[derive(Debug, PartialEq)]
#[expect(
    dead_code,
    reason = "the scrubber of today leaves nothing and says nothing"
)]
pub(crate) enum Fate {
    Clean,
    Scrubbed,
    Left(String),
    Gone,
}

pub(crate) fn file(path: &Path, wanted: &Wanted) -> Fate {
    let Ok(mut bytes) = std::fs::read(path) else {
        return Fate::Gone;
    };
    let changed = layers::visit(&mut bytes, &mut |layer| match wanted {
        Wanted::Secret(secret) => {
            let mut found = false;
            let secret = secret.as_bytes();
            let start = if secret.starts_with(b"enrl_") { 5 } else { 0 };
            while let Some(at) = layer.windows(secret.len()).position(|part| part == secret) {
                layer[at + start..at + secret.len()].fill(b'x');
                found = true;
            }
            found
        }
        Wanted::AnyToken => {
            let mut found = false;
            for at in 5..layer.len() {
                if &layer[at - 5..at] == b"enrl_" {
                    let is_digit =
                        |byte: &&mut u8| byte.is_ascii_alphanumeric() || b"_-".contains(*byte);
                    let tail: Vec<_> = layer[at..].iter_mut().take_while(is_digit).collect();
                    if tail.len() >= 8 && tail.iter().any(|byte| **byte != b'x') {
                        for byte in tail {
                            *byte = b'x';
                        }
                        found = true;
                    }
                }
            }
            found
        }
    });
    if changed {
        std::fs::write(path, bytes).unwrap();
        return Fate::Scrubbed;
    }
    Fate::Clean
}
