//! The layers in which a secret can lie in user data: plain text, base64 (MIME parts, encoded
//! files) and gzip (compressed user data), in each other, and inside of pickles.
//!
//! What is written back has the length of what was there.

use std::io::{Read, Write};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use flate2::{Compression, GzBuilder};
use zeroize::Zeroizing;

/// Compressed parts in encoded messages in compressed user data: nothing real goes deeper.
const DEEPEST: usize = 4;
/// User data is at most 16 KiB to 1 MiB, by cloud; more out of one archive is a bomb.
const LONGEST_UNPACKED: u64 = 16 << 20;
/// Less base64 than this holds no token.
const SHORTEST_RUN: usize = 16;

/// Shows `bytes`, and whatever is packed in them, to `edit`, which changes them in place, keeps
/// their length, and tells whether it did. Returns whether anything was changed.
pub fn visit(bytes: &mut [u8], edit: &mut dyn FnMut(&mut [u8]) -> bool) -> bool {
    descend(bytes, edit, DEEPEST)
}

fn descend(bytes: &mut [u8], edit: &mut dyn FnMut(&mut [u8]) -> bool, depth: usize) -> bool {
    let mut changed = false;
    if depth > 0 {
        // Archives first: one that stores its content as it is would be broken by an edit of what
        // is seen of it.
        changed |= archives(bytes, edit, depth);
        changed |= encoded(bytes, edit, depth);
    }
    changed | edit(bytes)
}

/// Each gzip member, wherever it begins.
fn archives(bytes: &mut [u8], edit: &mut dyn FnMut(&mut [u8]) -> bool, depth: usize) -> bool {
    const MAGIC: &[u8] = &[0x1f, 0x8b, 8];
    let mut changed = false;
    let mut at = 0;
    while let Some(next) = bytes[at..].windows(3).position(|window| window == MAGIC) {
        at += next;
        match unpacked(&bytes[at..]) {
            Some((mut content, length)) => {
                if descend(&mut content, edit, depth - 1) {
                    bytes[at..at + length].copy_from_slice(&packed(&content, length));
                    changed = true;
                }
                at += length;
            }
            None => at += MAGIC.len(),
        }
    }
    changed
}

/// The content of the member that `bytes` begin with, and how long that member is.
fn unpacked(bytes: &[u8]) -> Option<(Zeroizing<Vec<u8>>, usize)> {
    let mut decoder = flate2::bufread::GzDecoder::new(bytes);
    let mut content = Zeroizing::new(Vec::new());
    (&mut decoder)
        .take(LONGEST_UNPACKED + 1)
        .read_to_end(&mut content)
        .ok()?;
    let is_whole = u64::try_from(content.len()).is_ok_and(|length| length <= LONGEST_UNPACKED);
    is_whole.then(|| (content, bytes.len() - decoder.into_inner().len()))
}

/// The content as a member of exactly `length` bytes. The name in the header makes up for what is
/// missing. Should the content no longer fit, nothing of it is kept: the secret goes first.
fn packed(content: &[u8], length: usize) -> Vec<u8> {
    let fits = |content: &[u8]| {
        let bare = member(content, 0)?;
        let missing = length.checked_sub(bare.len())?;
        member(content, missing).filter(|member| member.len() == length)
    };
    fits(content)
        .or_else(|| fits(b""))
        .unwrap_or_else(|| vec![0; length])
}

/// A gzip member whose header is `padding` bytes longer than it need be.
fn member(content: &[u8], padding: usize) -> Option<Vec<u8>> {
    let mut builder = GzBuilder::new();
    if let Some(name) = padding.checked_sub(1) {
        builder = builder.filename(vec![b'x'; name]);
    }
    let mut encoder = builder.write(Vec::new(), Compression::best());
    encoder.write_all(content).ok()?;
    encoder.finish().ok()
}

/// Each run of base64, line breaks between, also as JSON writes them. A run may begin in the
/// middle of a word, so each of the four ways to cut it into groups is tried.
fn encoded(bytes: &mut [u8], edit: &mut dyn FnMut(&mut [u8]) -> bool, depth: usize) -> bool {
    let mut changed = false;
    let mut at = 0;
    while at < bytes.len() {
        let (digits, end) = run(bytes, at);
        if digits.len() >= SHORTEST_RUN {
            for offset in 0..4 {
                changed |= decoded(bytes, &digits[offset..], edit, depth);
            }
        }
        at = end.max(at + 1);
    }
    changed
}

/// Where the digits of the run that begins at `at` are, and where it ends.
fn run(bytes: &[u8], at: usize) -> (Vec<usize>, usize) {
    let mut digits = Vec::new();
    let mut next = at;
    while let Some(byte) = bytes.get(next) {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => digits.push(next),
            b'\r' | b'\n' if !digits.is_empty() => {}
            b'\\' if matches!(bytes.get(next + 1), Some(b'r' | b'n')) && !digits.is_empty() => {
                next += 1;
            }
            _ => break,
        }
        next += 1;
    }
    (digits, next)
}

fn decoded(
    bytes: &mut [u8],
    digits: &[usize],
    edit: &mut dyn FnMut(&mut [u8]) -> bool,
    depth: usize,
) -> bool {
    let lenient = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new()
            .with_encode_padding(false)
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    // One digit alone, behind whole groups, says nothing.
    let length = digits.len() - usize::from(digits.len() % 4 == 1);
    let digits = &digits[..length];
    let text: Zeroizing<Vec<u8>> =
        Zeroizing::new(digits.iter().map(|digit| bytes[*digit]).collect());
    let Ok(content) = lenient.decode(&text) else {
        return false;
    };
    let mut content = Zeroizing::new(content);
    if !descend(&mut content, edit, depth - 1) {
        return false;
    }
    for (digit, byte) in digits.iter().zip(lenient.encode(&content).bytes()) {
        bytes[*digit] = byte;
    }
    true
}
