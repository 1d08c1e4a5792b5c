//! A brute-force search for a readable token: each layer is decoded completely in every possible way, and the
//! result is a layer again. It is independent of the agent's search, and keeps every copy in memory.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;

/// Deepest nesting of base64 and archives.
const DEEPEST: usize = 5;
/// Deepest nesting of escapes and other encodings that only shrink.
const MOST_ESCAPES: usize = 6;
/// Number of consecutive characters that reveal a token.
const READABLE: usize = 12;
/// Shortest base64 that can contain a token.
const SHORTEST_RUN: usize = 11;
/// Limit of bytes from one archive; more is a decompression bomb.
const LONGEST_UNPACKED: u64 = 64 << 20;

/// Unpacks formats that flate2 does not support: called at each place where an archive of zstd, xz or bzip2
/// may begin.
pub(crate) type Unpack<'a> = &'a dyn Fn(&[u8]) -> Option<Vec<u8>>;

/// A search for one token.
pub(crate) struct Searcher<'a> {
    needles: HashSet<Vec<u8>>,
    length: usize,
    /// Table: true if two bytes begin a needle.
    begins: Vec<bool>,
    unpack: Unpack<'a>,
}

impl<'a> Searcher<'a> {
    /// Searches for 12 consecutive characters of the token after its prefix, or for all if there are fewer.
    pub(crate) fn of_pieces(token: &str, unpack: Unpack<'a>) -> Self {
        let tail = token.strip_prefix("enrl_").unwrap_or(token).as_bytes();
        Self::new(tail.windows(tail.len().min(READABLE)), unpack)
    }

    /// Searches for the complete token.
    pub(crate) fn of_all(token: &str, unpack: Unpack<'a>) -> Self {
        Self::new([token.as_bytes()].into_iter(), unpack)
    }

    fn new<'n>(needles: impl Iterator<Item = &'n [u8]>, unpack: Unpack<'a>) -> Self {
        let needles: HashSet<Vec<u8>> = needles.map(<[u8]>::to_vec).collect();
        let mut begins = vec![false; 1 << 16];
        for needle in &needles {
            begins[pair(needle[0], needle[1])] = true;
        }
        Self {
            length: needles.iter().map(Vec::len).min().unwrap_or(0),
            needles,
            begins,
            unpack,
        }
    }

    /// Returns the layers around a readable token, outermost first.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<String> {
        let mut search = Search {
            searcher: self,
            seen: HashSet::new(),
        };
        search.layer(bytes, DEEPEST, MOST_ESCAPES)
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        bytes
            .windows(self.length)
            .any(|window| self.begins[pair(window[0], window[1])] && self.needles.contains(window))
    }
}

struct Search<'a> {
    searcher: &'a Searcher<'a>,
    /// Hashes of the searched layers, and the remaining depth below each.
    seen: HashSet<(u64, usize, usize)>,
}

impl Search<'_> {
    fn layer(&mut self, bytes: &[u8], depth: usize, escapes: usize) -> Option<String> {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        if bytes.len() < self.searcher.length
            || !self.seen.insert((hasher.finish(), depth, escapes))
        {
            return None;
        }
        if self.searcher.is_in(bytes) {
            return Some("plain".into());
        }
        let below = |name: &str| {
            let name = name.to_owned();
            move |inner| format!("{name} > {inner}")
        };
        if escapes > 0 {
            for (name, unescape) in ESCAPES {
                if let Some(layer) = unescape(bytes)
                    && let Some(found) = self.layer(&layer, depth, escapes - 1)
                {
                    return Some(below(name)(found));
                }
            }
        }
        if depth == 0 {
            return None;
        }
        for layer in based(bytes) {
            if let Some(found) = self.layer(&layer, depth - 1, escapes) {
                return Some(below("base64")(found));
            }
        }
        for at in 0..bytes.len().saturating_sub(3) {
            let rest = &bytes[at..];
            let layer = match rest[..3] {
                [0x1f, 0x8b, 8] => gunzip(rest),
                [0x28, 0xb5, 0x2f] | [0xfd, b'7', b'z'] | [b'B', b'Z', b'h'] => {
                    (self.searcher.unpack)(rest)
                }
                _ => None,
            };
            if let Some(layer) = layer
                && let Some(found) = self.layer(&layer, depth - 1, escapes)
            {
                return Some(below("archive")(found));
            }
        }
        None
    }
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

/// Removes one layer that only shrinks; returns `None` if there is none.
type Unescape = fn(&[u8]) -> Option<Vec<u8>>;
const ESCAPES: [(&str, Unescape); 6] = [
    ("json", unescape),
    ("quoted-printable", |bytes| {
        unquote(bytes, false, is_upper_hex)
    }),
    ("indented quoted-printable", |bytes| {
        unquote(bytes, true, is_upper_hex)
    }),
    // Not legal, but decoded by many programs. In other text, the digits are the beginning of a word.
    ("lax quoted-printable", |bytes| {
        unquote(bytes, false, is_hex)
    }),
    ("lax indented quoted-printable", |bytes| {
        unquote(bytes, true, is_hex)
    }),
    ("utf-16", without_zeros),
];

fn is_upper_hex(digit: u8) -> bool {
    matches!(digit, b'0'..=b'9' | b'A'..=b'F')
}

fn is_hex(digit: u8) -> bool {
    digit.is_ascii_hexdigit()
}

/// Decodes each backslash escape of JSON.
fn unescape(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.contains(&b'\\') {
        return None;
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let next = bytes.get(at + 1);
        let (byte, length) = match (bytes[at], next) {
            (b'\\', Some(b'n')) => (b'\n', 2),
            (b'\\', Some(b'r')) => (b'\r', 2),
            (b'\\', Some(b't')) => (b'\t', 2),
            (b'\\', Some(b'u')) => match hex(bytes.get(at + 2..at + 6)) {
                // A token has only ASCII characters.
                Some(unit) => (u8::try_from(unit).unwrap_or(0x80), 6),
                None => (b'u', 2),
            },
            (b'\\', Some(other)) => (*other, 2),
            (other, _) => (other, 1),
        };
        out.push(byte);
        at += length;
    }
    Some(out)
}

/// Decodes `=XX` and `=` at the end of a line, also if the lines `are_indented`.
fn unquote(bytes: &[u8], are_indented: bool, is_digit: fn(u8) -> bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    let mut found = false;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest[0] == b'=' {
            let digits = rest
                .get(1..3)
                .filter(|two| two.iter().copied().all(is_digit));
            if let Some(byte) = hex(digits) {
                out.push(u8::try_from(byte).unwrap_or(0));
                at += 3;
                found = true;
                continue;
            }
            if let Some(length) = soft_break(&rest[1..], are_indented) {
                at += 1 + length;
                found = true;
                continue;
            }
        }
        out.push(rest[0]);
        at += 1;
    }
    found.then_some(out)
}

/// Returns the length of a line ending with the indentation of the next line.
fn soft_break(bytes: &[u8], is_indented: bool) -> Option<usize> {
    let blank = |bytes: &[u8]| {
        let blank = bytes.iter().take_while(|byte| b" \t\r".contains(byte));
        blank.count()
    };
    let end = blank(bytes) + 1;
    let next = bytes.get(end..).filter(|_| bytes[end - 1] == b'\n')?;
    Some(end + if is_indented { blank(next) } else { 0 })
}

/// Decodes ASCII in UTF-16 of both byte orders at any offset.
fn without_zeros(bytes: &[u8]) -> Option<Vec<u8>> {
    // One zero between two characters; more is not text.
    let is_kept = |at: usize| {
        let is_zero = |at: Option<&u8>| at == Some(&0);
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        !is_zero(bytes.get(at)) || is_zero(before) || is_zero(bytes.get(at + 1))
    };
    let kept = (0..bytes.len()).filter(|at| is_kept(*at));
    let out: Vec<u8> = kept.map(|at| bytes[at]).collect();
    (out.len() < bytes.len()).then_some(out)
}

fn hex(digits: Option<&[u8]>) -> Option<u32> {
    let digits = std::str::from_utf8(digits?).ok()?;
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u32::from_str_radix(digits, 16).ok())?
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Decodes each run of base64 of both alphabets, with joined lines, from each of its first four digits on.
fn based(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut layers = Vec::new();
    let joined = joined(bytes);
    for alphabet in [b"+/", b"-_"] {
        let value = |byte: u8| match byte {
            b'A'..=b'Z' => Some(byte - b'A'),
            b'a'..=b'z' => Some(byte - b'a' + 26),
            b'0'..=b'9' => Some(byte - b'0' + 52),
            byte if byte == alphabet[0] => Some(62),
            byte if byte == alphabet[1] => Some(63),
            _ => None,
        };
        for run in joined.split(|byte| value(*byte).is_none()) {
            let is_both = run.iter().all(u8::is_ascii_alphanumeric);
            if run.len() < SHORTEST_RUN || (is_both && alphabet == b"-_") {
                continue;
            }
            let values: Vec<u8> = run.iter().filter_map(|byte| value(*byte)).collect();
            layers.extend((0..4).map(|start| decoded(&values[start..])));
        }
    }
    layers
}

fn decoded(values: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len() * 3 / 4);
    for group in values.chunks(4) {
        let at = |index: usize| group.get(index).copied().unwrap_or(0);
        let bytes = [
            at(0) << 2 | at(1) >> 4,
            at(1) << 4 | at(2) >> 2,
            at(2) << 6 | at(3),
        ];
        out.extend_from_slice(&bytes[..group.len() * 3 / 4]);
    }
    out
}

/// Removes line breaks within base64 with their white space: real ones and those of JSON and YAML, escaped any
/// number of times.
fn joined(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let (mut end, mut breaks) = (at, false);
        while let Some(byte) = bytes.get(end) {
            let slashes = bytes[end..].iter().take_while(|byte| **byte == b'\\');
            let slashes = slashes.count();
            let next = bytes.get(end + slashes);
            match (slashes, byte, next) {
                (0, byte, _) if is_space(*byte) => {
                    breaks |= *byte == b'\n';
                    end += 1;
                }
                (1.., _, Some(b'n' | b'r' | b't')) => {
                    breaks |= next != Some(&b't');
                    end += slashes + 1;
                }
                (1.., _, Some(byte)) if is_space(*byte) => end += slashes,
                _ => break,
            }
        }
        if breaks {
            at = end;
        } else {
            end = end.max(at + 1);
            out.extend_from_slice(&bytes[at..end]);
            at = end;
        }
    }
    out
}

/// Returns the readable content of a gzip member and of the following members.
fn gunzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let decoder = flate2::bufread::MultiGzDecoder::new(bytes);
    let _cut_off = decoder.take(LONGEST_UNPACKED).read_to_end(&mut content);
    (!content.is_empty()).then_some(content)
}
