//! Replacement of the token of an existing file with another one, in plain text and in base64 of one line.

use crate::node::Node;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Returns the file with `new` for `old`, of the same length, and its mask.
pub(crate) fn spliced(bytes: &[u8], old: &str, new: &str) -> Node {
    assert_eq!(old.len(), new.len());
    let mut node = Node::of(bytes);
    for at in places(bytes, old.as_bytes()) {
        node.mark(at, new.as_bytes());
    }
    for lead in 0..3 {
        // The digits that encode only bits of the token.
        let first = (lead * 8_usize).div_ceil(6);
        let end = (lead + old.len()) * 8 / 6;
        let digits = |token: &str| -> Vec<u8> {
            (first..end)
                .map(|digit| DIGITS[value(token, lead, digit)])
                .collect()
        };
        let is_text = |at: &usize| !is_in_gzip(bytes, *at);
        for at in places(bytes, &digits(old)).into_iter().filter(is_text) {
            node.mark(at, &digits(new));
            // The digits before and after these also encode bits of their neighbours.
            for (digit, at) in [
                (first.checked_sub(1), at.checked_sub(1)),
                (Some(end), Some(at + end - first)),
            ] {
                let (Some(digit), Some(at)) = (digit, at) else {
                    continue;
                };
                let is_token =
                    |bit: usize| (lead * 8..(lead + old.len()) * 8).contains(&(digit * 6 + bit));
                let mask = (0..6)
                    .filter(|bit| is_token(*bit))
                    .fold(0, |mask, bit| mask | 32 >> bit);
                let there = bytes
                    .get(at)
                    .and_then(|byte| DIGITS.iter().position(|own| own == byte));
                if let (Some(there), true) = (there, mask != 0) {
                    node.mark(
                        at,
                        &[DIGITS[there & !mask | value(new, lead, digit) & mask]],
                    );
                }
            }
        }
    }
    node
}

/// Returns whether the base64 around `at` is a gzip member, whose checksum would be wrong with another token.
fn is_in_gzip(bytes: &[u8], at: usize) -> bool {
    let before = bytes[..at].iter().rev();
    let begin = at - before.take_while(|byte| DIGITS.contains(byte)).count();
    bytes[begin..].starts_with(b"H4sI")
}

/// Returns the six bits of this base64 digit, with zeros around the token.
fn value(token: &str, lead: usize, digit: usize) -> usize {
    let bytes = token.as_bytes();
    (0..6).fold(0, |value, bit| {
        let bit = digit * 6 + bit;
        let byte = (bit / 8)
            .checked_sub(lead)
            .and_then(|at| bytes.get(at))
            .copied()
            .unwrap_or(0);
        value << 1 | usize::from(byte >> (7 - bit % 8) & 1)
    })
}

fn places(bytes: &[u8], needle: &[u8]) -> Vec<usize> {
    let is_needle = |at: &usize| bytes[*at..].starts_with(needle);
    (0..bytes.len()).filter(is_needle).collect()
}

#[test]
fn a_spliced_token_equals_its_base64() {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

    let (old, new) = ("enrl_Zq3vN8sK1xTfB6yR0u", "enrl_abcdefghijklmnopqr");
    for lead in 0..6 {
        for tail in 0..6 {
            let text = |token: &str| format!("{}{token}{}", &"before"[..lead], &"behind"[..tail]);
            let code = |token: &str| format!("a {token}: {}", BASE64_STANDARD.encode(text(token)));
            let node = spliced(code(old).as_bytes(), old, new);
            assert_eq!(String::from_utf8(node.bytes).unwrap(), code(new));
        }
    }
}
