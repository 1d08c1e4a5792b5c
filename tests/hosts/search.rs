//! A search for a secret, independent of the agent's search: it decodes everything that can be decoded, from
//! every offset, and searches again.

use std::io::Read;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use flate2::read::GzDecoder;
use memchr::memmem::find;

/// Deepest nesting that is decoded.
const DEPTH: u8 = 5;
/// Shorter runs of base64 cannot contain the secret.
const SHORTEST: usize = 24;
/// Limit of unpacked bytes; no file of cloud-init is near it.
const LONGEST: u64 = 64 << 20;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Returns whether `bytes` contain `secret`: plain, in UTF-16, in base64 with any line breaks, in gzip, and in
/// these encodings nested.
pub(crate) fn contains_secret(bytes: &[u8], secret: &str) -> bool {
    search(bytes, secret, DEPTH)
}

fn search(bytes: &[u8], secret: &str, depth: u8) -> bool {
    let wide: Vec<u8> = secret.encode_utf16().flat_map(u16::to_le_bytes).collect();
    if find(bytes, secret.as_bytes()).is_some() || find(bytes, &wide).is_some() {
        return true;
    }
    if depth == 0 {
        return false;
    }
    let inner = packed(bytes).into_iter().chain(encoded(bytes));
    inner
        .into_iter()
        .any(|inner| search(&inner, secret, depth - 1))
}

/// Returns the content of each gzip member, at any offset.
fn packed(bytes: &[u8]) -> Vec<Vec<u8>> {
    let starts = memchr::memmem::find_iter(bytes, b"\x1f\x8b\x08");
    let inflate = |at: usize| {
        let mut inner = Vec::new();
        // The readable part of a broken member is searched as well.
        let _ = GzDecoder::new(&bytes[at..])
            .take(LONGEST)
            .read_to_end(&mut inner);
        inner
    };
    starts
        .map(inflate)
        .filter(|inner| !inner.is_empty())
        .collect()
}

/// Returns each run of base64, decoded from each of the four offsets. White space, also escaped by JSON or
/// Python, does not end a run.
fn encoded(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut runs = vec![Vec::new()];
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'-' => push(&mut runs, b'+'),
            b'_' => push(&mut runs, b'/'),
            _ if byte.is_ascii_alphanumeric() || b"+/".contains(byte) => push(&mut runs, *byte),
            _ if byte.is_ascii_whitespace() => {}
            b'\\' if tail.first().is_some_and(|next| b"nrt".contains(next)) => rest = &tail[1..],
            _ => runs.push(Vec::new()),
        }
    }
    let long = runs.iter().filter(|run| run.len() >= SHORTEST);
    long.flat_map(|run| (0..4).filter_map(|offset| decoded(&run[offset..])))
        .collect()
}

fn push(runs: &mut [Vec<u8>], byte: u8) {
    if let Some(run) = runs.last_mut() {
        run.push(byte);
    }
}

fn decoded(run: &[u8]) -> Option<Vec<u8>> {
    // A single digit at the end encodes no byte.
    let even = run.len() - usize::from(run.len() % 4 == 1);
    BASE64.decode(&run[..even]).ok()
}

#[test]
fn a_secret_is_found_in_every_encoding_and_archive() {
    use std::io::Write;
    const SECRET: &str = "enrl_Ab0defghij-_ABCDEFGHIJ0123456789klmnopqrstu";
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let lines = |bytes: &[u8], end: &str| {
        let text = BASE64.encode(bytes);
        let lines: Vec<_> = text
            .as_bytes()
            .chunks(20)
            .map(String::from_utf8_lossy)
            .collect();
        lines.join(end).into_bytes()
    };
    for padding in ["", "a", "bc", "def"] {
        let plain = format!("{padding}T={SECRET}\n").into_bytes();
        let mut forms = vec![plain.clone(), gzip(&plain)];
        for end in ["\n", "\r\n    ", "\\n", ""] {
            forms.push([b"key:\n", &lines(&plain, end)[..], b"\nnext: word"].concat());
            forms.push(gzip(&lines(&lines(&plain, "\n"), end)));
            forms.push(lines(&gzip(&plain), end));
        }
        for form in &forms {
            assert!(
                contains_secret(form, SECRET),
                "{:?}",
                String::from_utf8_lossy(form)
            );
            let other = SECRET.replace("Ab0", "Bb0");
            assert!(!contains_secret(form, &other));
        }
    }
}
