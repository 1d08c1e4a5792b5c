//! Text in which a character may be written as several bytes: JSON and its kin, quoted-printable, UTF-16.

use std::ops::Range;

use memchr::{memchr_iter, memmem, memrchr};
use zeroize::Zeroizing;

use super::archive;
use super::encodings::{Remains, Search, Visit};
use super::wanted::FILLER;

/// Of what is no text, so much around an escape is decoded with it; of a text, all.
const NEIGHBOURHOOD: usize = 2 << 10;

/// A way to write a byte.
pub(super) trait Escapes {
    /// The byte that each escape has.
    const SIGN: u8;
    /// How far before its sign one may begin.
    const LEAD: usize;
    /// What is decoded has to have no escape: every character is written so.
    const IS_WHOLE: bool;
    /// It is for text, so that an archive in it is not changed: it is not sure to be decoded right.
    const IS_FOR_TEXT: bool = false;
    /// It may make one word of two.
    const IS_EXACT_ONLY: bool = false;

    /// What is at `at`: how long it is, and the byte that it stands for, if it does for one.
    fn unit(bytes: &[u8], at: usize) -> (usize, Option<u8>);

    /// Whether these escapes are in `bytes`; a guess that is never wrong when it says no.
    fn is_in(bytes: &[u8]) -> bool {
        let _ = bytes;
        true
    }

    /// Whether the unit that `bytes` are can stand for `byte`, or for what blots out as well.
    fn fits(bytes: &[u8], byte: u8) -> bool;

    /// Writes `byte` into the unit that `bytes` are, whose length stays.
    fn put(bytes: &mut [u8], byte: u8);
}

/// Stands for itself in every way of writing.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte)
}

/// JSON (RFC 8259, section 7), and what YAML and Python write alike: `\n`, `\"`, `\u0041`, `\x41`, and a
/// line break that is none.
pub(super) struct Json;

impl Escapes for Json {
    const SIGN: u8 = b'\\';
    const LEAD: usize = 0;
    const IS_WHOLE: bool = false;

    fn unit(bytes: &[u8], at: usize) -> (usize, Option<u8>) {
        let bytes = &bytes[at..];
        let hex = |range: std::ops::Range<usize>| {
            let digits = std::str::from_utf8(bytes.get(range)?).ok()?;
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            is_hex
                .then(|| u8::from_str_radix(digits, 16).ok())
                .flatten()
        };
        match bytes {
            [b'\\', b'n', ..] => (2, Some(b'\n')),
            [b'\\', b'r', ..] => (2, Some(b'\r')),
            [b'\\', b't', ..] => (2, Some(b'\t')),
            [b'\\', byte @ (b'"' | b'\'' | b'/' | b'\\'), ..] => (2, Some(*byte)),
            [b'\\', b'x', ..] => hex(2..4).map_or((1, Some(b'\\')), |byte| (4, Some(byte))),
            [b'\\', b'u', b'0', b'0', ..] => match hex(4..6).filter(u8::is_ascii) {
                Some(byte) => (6, Some(byte)),
                None => (1, Some(b'\\')),
            },
            [b'\\', b'\n', ..] | [b'\\', b'\r', b'\n', ..] => {
                let is_blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
                (1 + bytes[1..].iter().take_while(is_blank).count(), None)
            }
            [byte, ..] => (1, Some(*byte)),
            [] => (0, None),
        }
    }

    fn fits(bytes: &[u8], byte: u8) -> bool {
        match bytes {
            [b'\\', b'u', ..] => byte.is_ascii(),
            [b'\\', b'x', _, _] => true,
            [b'\\', _] => byte == FILLER || byte == b'/',
            _ => is_plain(byte),
        }
    }

    fn put(bytes: &mut [u8], byte: u8) {
        match bytes {
            [b'\\', b'u' | b'x', .., high, low] => (*high, *low) = hex_digits(byte, *high, *low),
            // One character of two bytes stays one: a slash may be written so, and no letter.
            [b'\\', second] => *second = b'/',
            _ => bytes.fill(byte),
        }
    }
}

/// Quoted-printable (RFC 2045, section 6.7).
pub(super) struct QuotedPrintable;

impl Escapes for QuotedPrintable {
    const SIGN: u8 = b'=';
    const LEAD: usize = 0;
    const IS_WHOLE: bool = false;
    const IS_FOR_TEXT: bool = true;

    fn unit(bytes: &[u8], at: usize) -> (usize, Option<u8>) {
        let bytes = &bytes[at..];
        match bytes {
            [b'=', b'\n', ..] => (2, None),
            [b'=', b'\r', b'\n', ..] => (3, None),
            [b'=', high, low, ..] => {
                // Digits in lower case are illegal, and in a log they are the begin of a word.
                let value = |digit: &u8| match digit {
                    b'0'..=b'9' | b'A'..=b'F' => char::from(*digit).to_digit(16),
                    _ => None,
                };
                let byte = value(high)
                    .zip(value(low))
                    .and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
                byte.map_or((1, Some(b'=')), |byte| (3, Some(byte)))
            }
            [byte, ..] => (1, Some(*byte)),
            [] => (0, None),
        }
    }

    fn fits(bytes: &[u8], byte: u8) -> bool {
        bytes.len() == 3 || is_plain(byte)
    }

    fn put(bytes: &mut [u8], byte: u8) {
        match bytes {
            [b'=', high, low] => (*high, *low) = hex_digits(byte, *high, *low),
            _ => bytes.fill(byte),
        }
    }
}

/// The same in an indented block of another document, such as YAML's: what indents a line is no part of it.
pub(super) struct IndentedQuotedPrintable;

impl Escapes for IndentedQuotedPrintable {
    const SIGN: u8 = QuotedPrintable::SIGN;
    const LEAD: usize = QuotedPrintable::LEAD;
    const IS_WHOLE: bool = false;
    const IS_FOR_TEXT: bool = true;
    const IS_EXACT_ONLY: bool = true;

    fn unit(bytes: &[u8], at: usize) -> (usize, Option<u8>) {
        match QuotedPrintable::unit(bytes, at) {
            (length, None) => {
                let line = memrchr(b'\n', &bytes[..at]).map_or(0, |end| end + 1);
                let indent = blanks(&bytes[line..at]);
                (length + indent.min(blanks(&bytes[at + length..])), None)
            }
            unit => unit,
        }
    }

    fn is_in(bytes: &[u8]) -> bool {
        [b"=\n ".as_slice(), b"=\n\t", b"=\r\n ", b"=\r\n\t"]
            .iter()
            .any(|soft_break| memmem::find(bytes, soft_break).is_some())
    }

    fn fits(bytes: &[u8], byte: u8) -> bool {
        QuotedPrintable::fits(bytes, byte)
    }

    fn put(bytes: &mut [u8], byte: u8) {
        QuotedPrintable::put(bytes, byte);
    }
}

fn blanks(bytes: &[u8]) -> usize {
    let is_blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
    bytes.iter().take_while(is_blank).count()
}

/// UTF-16, the low byte first.
pub(super) struct Utf16Le;

impl Escapes for Utf16Le {
    const SIGN: u8 = 0;
    const LEAD: usize = 1;
    const IS_WHOLE: bool = true;

    fn unit(bytes: &[u8], at: usize) -> (usize, Option<u8>) {
        let bytes = &bytes[at..];
        match bytes {
            [byte, 0, ..] if is_text(*byte) => (2, Some(*byte)),
            _ => (0, None),
        }
    }

    fn fits(_: &[u8], byte: u8) -> bool {
        is_text(byte)
    }

    fn put(bytes: &mut [u8], byte: u8) {
        bytes[0] = byte;
    }
}

/// UTF-16, the high byte first.
pub(super) struct Utf16Be;

impl Escapes for Utf16Be {
    const SIGN: u8 = 0;
    const LEAD: usize = 0;
    const IS_WHOLE: bool = true;

    fn unit(bytes: &[u8], at: usize) -> (usize, Option<u8>) {
        let bytes = &bytes[at..];
        match bytes {
            [0, byte, ..] if is_text(*byte) => (2, Some(*byte)),
            _ => (0, None),
        }
    }

    fn fits(_: &[u8], byte: u8) -> bool {
        is_text(byte)
    }

    fn put(bytes: &mut [u8], byte: u8) {
        bytes[1] = byte;
    }
}

fn is_text(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) || matches!(byte, b'\t' | b'\r' | b'\n')
}

/// The two digits of `byte`, in capitals where the old ones were.
fn hex_digits(byte: u8, high: u8, low: u8) -> (u8, u8) {
    let is_upper = |digit: u8| digit.is_ascii_uppercase();
    let is_upper = is_upper(high) || is_upper(low);
    let digit = |value: u8| match value {
        0..10 => b'0' + value,
        _ if is_upper => b'A' + (value - 10),
        _ => b'a' + (value - 10),
    };
    (digit(byte >> 4), digit(byte & 15))
}

/// Searches the text that each stretch with escapes in it stands for. One in which something has to stay is
/// added to `frozen`, and none of these is looked into.
pub(super) fn unescape<E: Escapes>(
    search: &mut Search<'_>,
    bytes: &mut [u8],
    depth: usize,
    is_open: bool,
    frozen: &mut Vec<Range<usize>>,
) -> Visit {
    let mut visit = Visit::default();
    let mut at = 0;
    while let Some((begin, end)) = stretch::<E>(bytes, at) {
        at = end.max(begin + 1);
        let is_frozen = frozen
            .iter()
            .any(|hole| hole.start < end && begin < hole.end);
        if end - begin < search.wanted.shortest() || is_frozen || search.is_late() {
            continue;
        }
        let Some(mut decoded) = search.buffer(end - begin) else {
            search.note(Remains::Deep);
            continue;
        };
        let is_open = is_open && end == bytes.len();
        let part = &mut bytes[begin..end];
        if E::is_in(part) && decode::<E>(part, &mut decoded.0) {
            let (stuck, found) = (search.stuck, search.found);
            let was_exact_only = search.is_for_exact_only;
            search.is_for_exact_only |= E::IS_EXACT_ONLY;
            // Bytes of an archive that stand for themselves look like text before they are decoded.
            let shows_archive = E::IS_FOR_TEXT && archive::is_in(&decoded.0);
            let mut below = search.visit(&mut decoded.0, depth, is_open);
            search.is_for_exact_only = was_exact_only;
            if shows_archive {
                let seen = search.wanted.blot_out(&mut Zeroizing::new(part.to_vec()));
                if search.found > found || seen > 0 {
                    search.note(Remains::Escaped);
                }
                below.changed = false;
            }
            let changed = below.changed && take_back::<E>(part, &decoded.0);
            if below.changed && !changed {
                search.note(Remains::Escaped);
            }
            if search.stuck > stuck || shows_archive {
                let place = frozen.partition_point(|hole| hole.start < begin);
                frozen.insert(place, begin..end);
            }
            let cut = below.cut.map(|cut| begin + position::<E>(part, cut));
            visit.add(changed, cut);
        }
        search.give_back(decoded);
    }
    visit
}

/// The next stretch at or behind `at` that is to be decoded as one.
fn stretch<E: Escapes>(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut signs = memchr_iter(E::SIGN, &bytes[at..]).map(|sign| at + sign);
    if E::IS_WHOLE {
        return signs.find_map(|sign| {
            let begin = sign.checked_sub(E::LEAD).filter(|begin| *begin >= at)?;
            let mut end = begin;
            loop {
                match E::unit(bytes, end) {
                    (0, _) => break,
                    (length, _) => end += length,
                }
            }
            // What is shorter is no text: zero bytes between other ones.
            (end - begin > 16).then_some((begin, end))
        });
    }
    // A sign that begins no escape stands for itself.
    let mut signs = signs.filter(|sign| E::unit(bytes, *sign).0 != 1);
    let first = signs.next()?;
    let mut last = first;
    for sign in signs {
        if sign - last > 2 * NEIGHBOURHOOD {
            break;
        }
        last = sign;
    }
    // A text is seen whole: the half of an archive, in whatever encoding, would look like text.
    let is_part = |byte: &&u8| is_text(**byte) || !byte.is_ascii();
    let begin = first.saturating_sub(NEIGHBOURHOOD).max(at);
    let before = bytes[at..begin].iter().rev().take_while(is_part).count();
    let end = (last + NEIGHBOURHOOD).min(bytes.len());
    let behind = bytes[end..].iter().take_while(is_part).count();
    Some((begin - before, end + behind))
}

/// What `bytes` stand for; tells whether anything in them is an escape.
fn decode<E: Escapes>(bytes: &[u8], decoded: &mut Vec<u8>) -> bool {
    let mut has_escapes = false;
    let mut at = 0;
    while at < bytes.len() {
        let (length, byte) = E::unit(bytes, at);
        has_escapes |= length != 1;
        decoded.extend(byte);
        at += length.max(1);
    }
    has_escapes
}

/// Writes what `decoded` is now into the units, and only into those that stand for something else. Where
/// one of them cannot stand for what it is to be, nothing is written, and the answer is no.
fn take_back<E: Escapes>(bytes: &mut [u8], decoded: &[u8]) -> bool {
    for is_trial in [true, false] {
        let mut decoded = decoded.iter();
        let mut at = 0;
        while at < bytes.len() {
            let (length, byte) = E::unit(bytes, at);
            let end = at + length.max(1);
            if let Some(old) = byte
                && let Some(new) = decoded.next()
                && *new != old
            {
                let unit = &mut bytes[at..end];
                if !is_trial {
                    E::put(unit, *new);
                } else if !E::fits(unit, *new) {
                    return false;
                }
            }
            at = end;
        }
    }
    true
}

/// Where the unit is whose byte has this number.
fn position<E: Escapes>(bytes: &[u8], number: usize) -> usize {
    let (mut at, mut count) = (0, 0);
    while at < bytes.len() {
        let (length, byte) = E::unit(bytes, at);
        if byte.is_some() {
            if count == number {
                return at;
            }
            count += 1;
        }
        at += length.max(1);
    }
    bytes.len()
}
