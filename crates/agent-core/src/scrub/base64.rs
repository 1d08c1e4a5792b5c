//! Base64 (RFC 4648, sections 4 and 5), with whatever may stand between its digits: line breaks, indentation,
//! and line breaks as JSON writes them, also doubly escaped.

use memchr::memchr2;

use super::encodings::{Remains, Search, Visit};

/// What stands between two digits is no longer than this.
const LONGEST_BREAK: usize = 4 << 10;
/// A line of fewer digits may be a word, with a hyphen that says nothing of the alphabet.
const SHORTEST_LINE: usize = 40;
/// No digit.
const NONE: u8 = 0xff;

/// The value of each byte as a digit, in either alphabet.
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < 64 {
        values[digit(value, false) as usize] = value;
        values[digit(value, true) as usize] = value;
        value += 1;
    }
    values
};

/// The digit of a value below 64.
const fn digit(value: u8, is_url: bool) -> u8 {
    match value {
        0..26 => b'A' + value,
        26..52 => b'a' + (value - 26),
        52..62 => b'0' + (value - 52),
        62 if is_url => b'-',
        62 => b'+',
        _ if is_url => b'_',
        _ => b'/',
    }
}

/// Digits with nothing but breaks between them.
struct Run {
    begin: usize,
    end: usize,
    digits: usize,
    /// Its lines have digits of section 4 that section 5 has not, and the other way round.
    has_standard: bool,
    has_url: bool,
}

/// Searches each run. It may begin in the middle of a word, or of an escape, so each of the four ways to
/// cut it into groups is tried.
pub(super) fn visit(
    search: &mut Search<'_>,
    bytes: &mut [u8],
    depth: usize,
    is_open: bool,
) -> Visit {
    let mut visit = Visit::default();
    let fewest = (search.wanted.shortest() * 8).div_ceil(6);
    let mut at = 0;
    while let Some(run) = next(bytes, at) {
        at = run.end;
        if run.digits < fewest {
            continue;
        }
        let is_open = is_open && run.end == bytes.len();
        let Some(mut decoded) = search.buffer(run.digits * 3 / 4 + 3) else {
            search.note(Remains::Deep);
            continue;
        };
        for offset in 0..4 {
            if search.is_late() {
                break;
            }
            decode(bytes, &run, offset, &mut decoded.0);
            let below = search.visit(&mut decoded.0, depth, is_open);
            let changed = below.changed && take_back(bytes, &run, offset, &decoded.0);
            if below.changed && !changed {
                search.note(Remains::Escaped);
            }
            let cut = below
                .cut
                .map(|cut| position(bytes, &run, offset + cut * 8 / 6));
            visit.add(changed, cut);
        }
        search.give_back(decoded);
    }
    visit
}

/// The next run at or behind `at`.
fn next(bytes: &[u8], at: usize) -> Option<Run> {
    let begin = at
        + bytes[at..]
            .iter()
            .position(|byte| VALUES[usize::from(*byte)] != NONE)?;
    let mut run = Run {
        begin,
        end: begin,
        digits: 0,
        has_standard: false,
        has_url: false,
    };
    loop {
        let digits = bytes[run.end..]
            .iter()
            .take_while(|byte| VALUES[usize::from(**byte)] != NONE);
        let line = &bytes[run.end..run.end + digits.count()];
        if line.len() >= SHORTEST_LINE {
            // What has both is a path.
            let is_standard = memchr2(b'+', b'/', line).is_some();
            let is_url = memchr2(b'-', b'_', line).is_some();
            run.has_standard |= is_standard && !is_url;
            run.has_url |= is_url && !is_standard;
        }
        run.digits += line.len();
        run.end += line.len();
        match line_break(&bytes[run.end..]) {
            0 => break,
            length => run.end += length,
        }
    }
    Some(run)
}

/// How long the break is that `bytes` begin with; zero when it is none, or no digit is behind it.
fn line_break(bytes: &[u8]) -> usize {
    let mut at = 0;
    let mut is_break = false;
    while let Some(byte) = bytes.get(at).filter(|_| at < LONGEST_BREAK) {
        match byte {
            b' ' | b'\t' => at += 1,
            b'\r' | b'\n' => {
                is_break = true;
                at += 1;
            }
            b'\\' => {
                let escapes = bytes[at..]
                    .iter()
                    .take_while(|byte| **byte == b'\\')
                    .count();
                match bytes.get(at + escapes) {
                    Some(b'n' | b'r' | b't' | b'\n' | b'\r') => {
                        is_break = true;
                        at += escapes + 1;
                    }
                    _ => return 0,
                }
            }
            _ if VALUES[usize::from(*byte)] != NONE && is_break => return at,
            _ => return 0,
        }
    }
    0
}

/// Where the digits of a run are, in their order.
fn digits<'b>(bytes: &'b [u8], run: &Run) -> impl Iterator<Item = usize> + 'b {
    let (mut at, end) = (run.begin, run.end);
    std::iter::from_fn(move || {
        while at < end {
            if VALUES[usize::from(bytes[at])] != NONE {
                at += 1;
                return Some(at - 1);
            }
            at += line_break(&bytes[at..end]).max(1);
        }
        None
    })
}

/// Where the digit is that has this number in its run.
fn position(bytes: &[u8], run: &Run, number: usize) -> usize {
    digits(bytes, run).nth(number).unwrap_or(run.begin)
}

/// The bytes that the digits of the run stand for, the first `offset` of them left out.
fn decode(bytes: &[u8], run: &Run, offset: usize, decoded: &mut Vec<u8>) {
    decoded.clear();
    let (mut bits, mut held, mut left_out) = (0_u32, 0, offset);
    let mut at = run.begin;
    while at < run.end {
        let value = VALUES[usize::from(bytes[at])];
        if value == NONE {
            at += line_break(&bytes[at..run.end]).max(1);
            continue;
        }
        at += 1;
        if left_out > 0 {
            left_out -= 1;
            continue;
        }
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            decoded.push((bits >> held & 0xff) as u8);
        }
    }
}

/// Writes what `decoded` is now into the digits, and only into those that stand for something else. Where it
/// cannot be told which of the alphabets has to be taken, nothing is written, and the answer is no.
fn take_back(bytes: &mut [u8], run: &Run, offset: usize, decoded: &[u8]) -> bool {
    let mut places = Vec::new();
    for (number, at) in digits(bytes, run).skip(offset).enumerate() {
        let old = VALUES[usize::from(bytes[at])];
        let first = number * 6;
        let new = (first..first + 6).fold(0, |value, bit| {
            let bit_of = |byte: u8| byte >> (7 - bit % 8) & 1;
            // The last digits may stand for less than a byte.
            let kept = old >> (5 - (bit - first)) & 1;
            value << 1 | decoded.get(bit / 8).copied().map_or(kept, bit_of)
        });
        if new != old {
            if new >= 62 && run.has_standard == run.has_url {
                return false;
            }
            places.push((at, digit(new, run.has_url)));
        }
    }
    for (at, digit) in places {
        bytes[at] = digit;
    }
    true
}
