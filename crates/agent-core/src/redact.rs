//! Last line of defence: nothing that looks like a token leaves by standard error.
//!
//! No message is built from a secret. But a user may type a token where a flag belongs, a token
//! command may print one on its standard error, and a hub may send one back: so what people and
//! programs gave us is passed through here before it is shown.

mod last_words;
mod value;

use std::borrow::Cow;

pub use last_words::last_words;
pub use value::without_value;

/// What stands where a secret stood.
const REDACTED: &str = "[redacted]";
const PREFIXES: [&str; 3] = ["enrl_", "agt_", "ms_"];

/// Replaces everything that looks like a token by its prefix and `[redacted]`.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let Some(first) = find(text) else {
        return Cow::Borrowed(text);
    };
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    let mut next = Some(first);
    while let Some((start, secret, end)) = next {
        clean.push_str(&rest[..secret]);
        debug_assert!(start < secret);
        clean.push_str(REDACTED);
        rest = &rest[end..];
        next = find(rest);
    }
    clean.push_str(rest);
    Cow::Owned(clean)
}

/// First token in `text`: where its prefix, its secret part and the text after it begin.
fn find(text: &str) -> Option<(usize, usize, usize)> {
    let bytes = text.as_bytes();
    for start in 0..bytes.len() {
        let in_word =
            start > 0 && bytes[start - 1].is_ascii_alphanumeric() && !ends_escape(&bytes[..start]);
        for prefix in PREFIXES {
            // As in `items_1234`. No word has one of the others inside.
            if in_word && prefix == "ms_" {
                continue;
            }
            let secret = start + prefix.len();
            if bytes.len() < secret || !bytes[start..secret].eq_ignore_ascii_case(prefix.as_bytes())
            {
                continue;
            }
            let length = bytes[secret..]
                .iter()
                .take_while(|byte| is_token_byte(**byte))
                .count();
            if length >= 4 {
                return Some((start, secret, secret + length));
            }
        }
    }
    None
}

/// Whether `before` ends with an escape such as `\n`, as Debug and JSON write a line break.
fn ends_escape(before: &[u8]) -> bool {
    matches!(before, [.., b'\\', b'n' | b'r' | b't'])
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !br#""'`,;()[]{}<>&"#.contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn takes_out_each_kind_of_token_and_leaves_the_rest() {
        assert_eq!(
            redact("a 'enrl_abcd1234', b agt_zzzzzz\nc ENRL_SHOUT d ms_0123456789"),
            "a 'enrl_[redacted]', b agt_[redacted]\nc ENRL_[redacted] d ms_[redacted]"
        );
    }

    #[test]
    fn an_escaped_line_break_ends_a_word() {
        assert_eq!(redact("\"a\\nenrl_secret\""), "\"a\\nenrl_[redacted]\"");
        assert_eq!(redact("x\\tagt_secret"), "x\\tagt_[redacted]");
    }

    #[test]
    fn a_token_behind_other_letters_is_still_one() {
        assert_eq!(redact("tokenagt_abcd1234"), "tokenagt_[redacted]");
        assert_eq!(redact("xENRL_abcd"), "xENRL_[redacted]");
    }

    #[test]
    fn leaves_what_only_resembles_one() {
        for text in [
            "enrl_…",
            "`agt_` or `ms_`",
            "params_of_it",
            "items_1234",
            "",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    proptest! {
        #[test]
        fn no_secret_part_survives(before in "[ -~]{0,20}", secret in "[A-Za-z0-9_-]{8,60}", after in "[ -~é]{0,20}") {
            let clean = redact(&format!("{before} enrl_{secret} {after}")).into_owned();
            let token = format!("enrl_{secret}");
            prop_assert!(!clean.contains(&token));
        }
    }
}
