//! Certificates in PEM files (RFC 7468), as editors and tools leave them: with a byte order mark, with text
//! around them, with one of the older labels, or without the line break between two of them.

use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem;
use rustls::pki_types::CertificateDer;

const BEGIN: &[u8] = b"-----BEGIN ";
const DASHES: &[u8] = b"-----";
/// The begin of every BEGIN line, also of a damaged one.
const SOME_DASHES: &[u8] = b"---";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The label of a certificate, and its older names (RFC 7468, section 5.1).
const LABELS: [&[u8]; 3] = [b"CERTIFICATE", b"X509 CERTIFICATE", b"X.509 CERTIFICATE"];
/// OpenSSL's label of a certificate that is followed by what it is trusted for.
const TRUSTED: &[u8] = b"TRUSTED CERTIFICATE";
/// The reason for a certificate that is complete, but is not for servers.
pub const DISTRUSTED: &str = "is not trusted for servers, as it says itself";
/// Base64 with or without its padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A certificate, and its place in the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The certificate. Its DER is not checked yet.
    pub certificate: CertificateDer<'static>,
    /// The place.
    pub place: Place,
}

/// The place of a certificate in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the certificate, from 1.
    pub number: usize,
    /// Number of its first line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate {} (line {})", self.number, self.line)
    }
}

impl Place {
    /// Returns the cause for a certificate that is not usable.
    #[must_use]
    pub fn invalid(self, reason: &str) -> String {
        format!("it holds an invalid certificate: {self} {reason}")
    }
}

/// Returns all certificates of a file.
///
/// # Errors
/// The reason why the file is not usable. A broken certificate is named, never passed over.
pub fn certificates(file: &[u8]) -> Result<Vec<Found>, String> {
    let all = each(file).collect::<Result<Vec<_>, _>>()?;
    if all.is_empty() {
        return Err(match file {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                "it is UTF-16 text: save it as UTF-8 or ASCII".into()
            }
            [0x30, 0x80..=0x84, ..] => {
                "it is DER, not PEM: openssl x509 -inform DER converts it".into()
            }
            _ => "it holds no PEM certificate (-----BEGIN CERTIFICATE-----)".into(),
        });
    }
    Ok(all)
}

/// Returns each certificate of a file, or the cause why it is not usable.
pub fn each(file: &[u8]) -> impl Iterator<Item = Result<Found, String>> {
    let of_certificates = Sections::of(file).filter(|section| is_certificate(section.label));
    of_certificates.enumerate().map(|(index, section)| {
        let place = Place {
            number: index + 1,
            line: section.line,
        };
        let der = decoded(&section).map_err(|reason| place.invalid(reason))?;
        let certificate = CertificateDer::from(der);
        Ok(Found { certificate, place })
    })
}

fn is_certificate(label: &[u8]) -> bool {
    label == TRUSTED || LABELS.contains(&label)
}

/// Returns a text without its byte order mark.
#[must_use]
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// A section: what stands between a BEGIN line and its END line.
struct Section<'a> {
    label: &'a [u8],
    /// The text, or why there is none.
    body: Result<&'a [u8], &'static str>,
    line: usize,
}

/// A line that begins a section.
enum BeginLine<'a> {
    Whole(&'a [u8]),
    /// The label of a certificate, with other dashes or blanks around it, or in other letters.
    Damaged(&'static [u8]),
}

impl<'a> BeginLine<'a> {
    /// Reads a line from its first dash on. Returns `None` for a comment.
    fn of(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_prefix(BEGIN);
        let whole = rest.and_then(|rest| Some(&rest[..memmem::find(rest, DASHES)?]));
        if whole.is_some_and(is_certificate) {
            return whole.map(Self::Whole);
        }
        let is_letter = |byte: &u8| !matches!(byte, b'-' | b' ' | b'\t');
        let word = &line[line.iter().position(is_letter)?..];
        let (word, rest) = word.split_at_checked(5)?;
        let end = |rest: &[u8]| rest.iter().position(|byte| *byte == b'-');
        let label = &rest[rest.iter().position(is_letter)?..];
        let label = label[..end(label).unwrap_or(label.len())].trim_ascii();
        let mut known = LABELS.into_iter().chain([TRUSTED]);
        known
            .find(|known| word.eq_ignore_ascii_case(b"BEGIN") && known.eq_ignore_ascii_case(label))
            .map(Self::Damaged)
            .or_else(|| whole.map(Self::Whole))
    }
}

struct Sections<'a> {
    file: &'a [u8],
    /// The first byte that is not read yet.
    position: usize,
    /// The byte up to which `lines` is counted, and the number of lines.
    counted: (usize, usize),
    line_break: u8,
}

impl<'a> Sections<'a> {
    fn of(file: &'a [u8]) -> Self {
        // Lines end with `\n` or `\r\n`, and on old Macs with `\r`.
        let has_newline = file.contains(&b'\n');
        Self {
            file,
            position: 0,
            counted: (0, 1),
            line_break: if has_newline { b'\n' } else { b'\r' },
        }
    }

    fn line_of(&mut self, position: usize) -> usize {
        let (from, lines) = self.counted;
        let between = &self.file[from..position];
        let more = memchr::memchr_iter(self.line_break, between).count();
        self.counted = (position, lines + more);
        lines + more
    }

    /// Returns whether nothing but blanks precedes `position` on its line. Anything else makes it a comment.
    fn begins_a_line(&self, position: usize) -> bool {
        let before = &self.file[self.position..position];
        let line = before
            .iter()
            .rposition(|byte| matches!(byte, b'\n' | b'\r'))
            .map_or(before, |end| &before[end + 1..]);
        without_mark(line.trim_ascii()).trim_ascii().is_empty()
    }
}

impl<'a> Iterator for Sections<'a> {
    type Item = Section<'a>;

    fn next(&mut self) -> Option<Section<'a>> {
        loop {
            let begin = self.position + memmem::find(&self.file[self.position..], SOME_DASHES)?;
            let is_first = self.begins_a_line(begin);
            let rest = &self.file[begin..];
            let length = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            let begin_line = BeginLine::of(&rest[..length]).filter(|_| is_first);
            let Some(begin_line) = begin_line else {
                self.position = begin + length;
                continue;
            };
            let line = self.line_of(begin);
            let label = match begin_line {
                BeginLine::Whole(label) => label,
                BeginLine::Damaged(label) => {
                    self.position = begin + length;
                    let body = Err("has a damaged BEGIN line");
                    return Some(Section { label, body, line });
                }
            };
            let start = begin + BEGIN.len() + label.len() + DASHES.len();
            let text = &self.file[start..];
            let end = [b"-----END ", label, DASHES].concat();
            let next = memmem::find(text, BEGIN).unwrap_or(text.len());
            let body = memmem::find(text, &end).filter(|length| *length < next);
            self.position = start + body.map_or(0, |length| length + end.len());
            return Some(Section {
                label,
                body: body.map(|length| &text[..length]).ok_or("has no END line"),
                line,
            });
        }
    }
}

fn decoded(section: &Section<'_>) -> Result<Vec<u8>, &'static str> {
    let body: Vec<u8> = section
        .body?
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let der = BASE64.decode(body).map_err(|_| "is not Base64")?;
    if der.is_empty() {
        return Err("is empty");
    }
    if section.label == TRUSTED {
        return without_trust(&der);
    }
    Ok(der)
}

/// Returns the certificate of a `TRUSTED CERTIFICATE`, whose trust follows it: `SEQUENCE { trusted SEQUENCE OF OID
/// OPTIONAL, rejected [0] SEQUENCE OF OID OPTIONAL, … }`.
fn without_trust(der: &[u8]) -> Result<Vec<u8>, &'static str> {
    const BROKEN: &str = "is not a certificate with its trust";
    /// `id-kp-serverAuth` and `anyExtendedKeyUsage`, encoded.
    const SERVERS: [&[u8]; 2] = [
        &[0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 3, 1],
        &[0x06, 0x04, 0x55, 0x1d, 0x25, 0x00],
    ];
    let certificate = Element::first(der).ok_or(BROKEN)?;
    if !certificate.after.is_empty() {
        let trust = Element::first(certificate.after)
            .filter(|trust| trust.tag == 0x30 && trust.after.is_empty())
            .ok_or(BROKEN)?;
        let names_servers = |purposes: &[u8]| {
            SERVERS
                .iter()
                .any(|purpose| memmem::find(purposes, purpose).is_some())
        };
        let mut rest = trust.content;
        while let Some(part) = Element::first(rest) {
            let is_refused = match part.tag {
                0x30 => !names_servers(part.content),
                0xa0 => names_servers(part.content),
                _ => false,
            };
            if is_refused {
                return Err(DISTRUSTED);
            }
            rest = part.after;
        }
    }
    Ok(der[..der.len() - certificate.after.len()].to_vec())
}

/// An element of DER with a definite length.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    after: &'a [u8],
}

impl<'a> Element<'a> {
    fn first(der: &'a [u8]) -> Option<Self> {
        let (&tag, der) = der.split_first()?;
        let (&first, der) = der.split_first()?;
        let (length, der) = match first {
            0..=0x7f => (usize::from(first), der),
            0x81..=0x84 => {
                let (digits, der) = der.split_at_checked(usize::from(first & 0x7f))?;
                let number = digits
                    .iter()
                    .fold(0, |number, digit| number << 8 | usize::from(*digit));
                (number, der)
            }
            _ => return None,
        };
        let (content, after) = der.split_at_checked(length)?;
        Some(Self {
            tag,
            content,
            after,
        })
    }
}

#[cfg(test)]
mod tests;
