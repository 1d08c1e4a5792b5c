//! Plain text and bytes with tokens, and text that resembles tokens.

use fastrand::Rng;

use crate::node::Node;
use crate::source::Source;

/// Characters of a token.
const TOKEN_DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The token that the scrubber is to find.
#[derive(Clone, Debug)]
pub(crate) struct Sought {
    /// A token, or a secret without a prefix.
    pub(crate) token: String,
    /// The scrubber does not get the token, and finds it by its shape.
    pub(crate) by_shape: bool,
}

impl Sought {
    /// Draws a token, or the secret of a system whose secrets have no prefix.
    pub(crate) fn draw(source: &mut Source) -> Self {
        let length = source.pick(&[32, 32, 43, 24, 16, 64, 20, 12, 33, 41]);
        let mut bulk = source.bulk();
        match source.below(10) {
            0..7 => Self::token(
                format!("enrl_{}", digits(&mut bulk, TOKEN_DIGITS, length)),
                false,
            ),
            // Shorter text may be a word about tokens.
            7 | 8 => Self::token(
                format!("enrl_{}", digits(&mut bulk, TOKEN_DIGITS, length.max(16))),
                true,
            ),
            _ => {
                let shared = digits(
                    &mut bulk,
                    b"abcdefghijkmnpqrstuvwxyzABCDEFGH23456789+/.~!",
                    length,
                );
                Self::token(shared, false)
            }
        }
    }

    /// Draws a token of that length.
    pub(crate) fn of_length(source: &mut Source, length: usize) -> Self {
        let tail = digits(&mut source.bulk(), TOKEN_DIGITS, length - "enrl_".len());
        Self::token(format!("enrl_{tail}"), false)
    }

    fn token(token: String, by_shape: bool) -> Self {
        Self { token, by_shape }
    }

    fn tail(&self) -> &str {
        self.token.strip_prefix("enrl_").unwrap_or(&self.token)
    }
}

/// Kinds of filler text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Filler {
    /// Lines of words, as in logs.
    Words,
    /// Lines of numbers, which compress badly.
    Numbers,
    /// Lines of words that are valid base64.
    Digits,
    /// Words with other scripts between them.
    Unicode,
    /// Any bytes.
    Binary,
}

/// Draws text, or bytes if `may_be_binary`, with some tokens in it if `with_token`.
pub(crate) fn leaf(
    source: &mut Source,
    sought: &Sought,
    with_token: bool,
    may_be_binary: bool,
) -> Node {
    let kinds = [
        Filler::Words,
        Filler::Numbers,
        Filler::Digits,
        Filler::Unicode,
        Filler::Binary,
    ];
    let filler = source.pick(&kinds[..4 + usize::from(may_be_binary)]);
    let mut node = Node::default();
    for piece in 0..source.between(1, 3) {
        let length = match source.below(8) {
            0 => 0,
            1..6 => source.below(60),
            6 => source.below(400),
            _ => source.below(3000),
        };
        node.push(fill(&mut source.bulk(), filler, length));
        let is_token = with_token && (piece == 0 || source.one_in(2)) && !source.one_in(8);
        if is_token {
            push_token(source, sought, filler, &mut node);
        } else if source.one_in(3) {
            node.push(" ");
            node.push(decoy(source, sought));
            node.push("\n");
        }
    }
    if !source.one_in(3) {
        let length = source.below(80);
        node.push(separated(&node.bytes));
        node.push(fill(&mut source.bulk(), filler, length));
    }
    node
}

/// Returns a token in the context of shells, YAML and logs.
fn push_token(source: &mut Source, sought: &Sought, filler: Filler, node: &mut Node) {
    // Found by its shape, a token ends at the first character that cannot be part of one.
    let around = [
        ("MONSYS_TOKEN=", "\n"),
        (" ", " "),
        ("export MONSYS_TOKEN='", "'\n"),
        ("\"", "\","),
        ("\n", "\n"),
        ("--token=", " "),
        ("", ""),
    ];
    let (before, after) = match source.pick(&around) {
        ("", "") if sought.by_shape && filler != Filler::Unicode => (" ", " "),
        ("", "") if sought.by_shape => ("é", "ü"),
        other => other,
    };
    let before = if node.bytes.is_empty() && source.one_in(2) {
        ""
    } else {
        before
    };
    node.push(before);
    node.push_token(&sought.token);
    if !source.one_in(5) || sought.by_shape {
        node.push(after);
    }
}

/// Characters that separate a token from the following text.
fn separated(bytes: &[u8]) -> &'static str {
    let ends = bytes.last().is_some_and(|byte| TOKEN_DIGITS.contains(byte));
    if ends { "\n" } else { "" }
}

/// Returns text that resembles the token and must not be changed.
fn decoy(source: &mut Source, sought: &Sought) -> String {
    let tail = sought.tail();
    let plain = [
        "enrl_...",
        "enrl_",
        "enrl_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "enrl_…",
        "enrl_$TOKEN",
        "xenrl",
    ];
    if sought.by_shape {
        return source.pick(&plain).to_owned();
    }
    match source.below(6) {
        // Half a token: fewer characters than reveal it.
        0 => format!("enrl_{}", &tail[..tail.len().min(11)]),
        1 => tail[tail.len() - tail.len().min(11)..].to_owned(),
        // One character differs, or every tenth.
        2 if tail.len() < 23 => changed(&sought.token, &[sought.token.len() - tail.len() / 2 - 1]),
        2 | 3 => {
            let start = sought.token.len() - tail.len();
            let at: Vec<_> = (start + 9..sought.token.len())
                .step_by(10)
                .chain([start])
                .collect();
            changed(&sought.token, &at)
        }
        4 => format!("enrl_{}", "x".repeat(tail.len())),
        _ => source.pick(&plain).to_owned(),
    }
}

fn changed(token: &str, places: &[usize]) -> String {
    let mut bytes = token.as_bytes().to_vec();
    for place in places {
        bytes[*place] = if bytes[*place] == b'Q' { b'R' } else { b'Q' };
    }
    String::from_utf8(bytes).expect("ASCII")
}

/// Returns about `length` bytes; text begins with a letter.
pub(crate) fn fill(bulk: &mut Rng, filler: Filler, length: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "cloud-init",
        "modules:final",
        "ran",
        "successfully",
        "user-data",
        "util.py[DEBUG]:",
        "write_files",
        "the",
        "(2024-05-01",
        "12:00:01,123)",
        "path",
        "[64]",
        "ssh-ed25519",
        "apt-get",
        "updated",
        "100%",
    ];
    const FOREIGN: [&str; 6] = ["Grüße", "données", "日本語", "→", "😀", "naïve\u{a0}x"];
    let mut out = Vec::with_capacity(length + 32);
    if filler == Filler::Binary {
        out.resize_with(length, || bulk.u8(..));
        return out;
    }
    while out.len() < length {
        match filler {
            Filler::Digits => {
                let count = 1 + bulk.usize(..120);
                let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
                out.extend(digits(bulk, alphabet, count).bytes());
            }
            Filler::Numbers => out.extend(bulk.u32(..400_000).to_string().bytes()),
            Filler::Unicode if bulk.bool() => {
                out.extend(FOREIGN[bulk.usize(..FOREIGN.len())].bytes());
            }
            _ => out.extend(WORDS[bulk.usize(..WORDS.len())].bytes()),
        }
        out.push(if bulk.u8(..9) == 0 { b'\n' } else { b' ' });
    }
    out.truncate(length.max(1));
    while std::str::from_utf8(&out).is_err() {
        out.pop();
    }
    out
}

fn digits(bulk: &mut Rng, alphabet: &[u8], length: usize) -> String {
    (0..length)
        .map(|_| char::from(alphabet[bulk.usize(..alphabet.len())]))
        .collect()
}
