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
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The label of a certificate, and its older names (RFC 7468, section 5.1).
const LABELS: [&[u8]; 3] = [b"CERTIFICATE", b"X509 CERTIFICATE", b"X.509 CERTIFICATE"];
/// OpenSSL's label of a certificate that is followed by what it is trusted for.
const TRUSTED: &[u8] = b"TRUSTED CERTIFICATE";
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
    let mut all = Vec::new();
    for section in Sections::of(file) {
        let is_trusted = section.label == TRUSTED;
        if !is_trusted && !LABELS.contains(&section.label) {
            continue;
        }
        let number = all.len() + 1;
        let place = Place {
            number,
            line: section.line,
        };
        let der = decoded(&section).map_err(|reason| place.invalid(reason))?;
        let der = if is_trusted {
            without_trust(&der).map_err(|reason| place.invalid(reason))?
        } else {
            der
        };
        let certificate = CertificateDer::from(der);
        all.push(Found { certificate, place });
    }
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

/// Returns a text without its byte order mark.
#[must_use]
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// A section: what stands between a BEGIN line and its END line.
struct Section<'a> {
    label: &'a [u8],
    /// `None` without an END line.
    body: Option<&'a [u8]>,
    line: usize,
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

    /// Returns whether nothing but blanks precedes `position` on its line, so that it is no comment.
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
            let begin = self.position + memmem::find(&self.file[self.position..], BEGIN)?;
            let is_section = self.begins_a_line(begin);
            let start = begin + BEGIN.len();
            if !is_section {
                self.position = start;
                continue;
            }
            let line = self.line_of(begin);
            let rest = &self.file[start..];
            self.position = start;
            let label = memmem::find(rest, DASHES).map_or(rest, |length| &rest[..length]);
            if label.contains(&b'\n') || label.contains(&b'\r') {
                continue;
            }
            let text = rest.get(label.len() + DASHES.len()..).unwrap_or_default();
            let end = [b"-----END ", label, DASHES].concat();
            let next = memmem::find(text, BEGIN).unwrap_or(text.len());
            let body = memmem::find(text, &end).filter(|length| *length < next);
            if let Some(length) = body {
                self.position = start + label.len() + DASHES.len() + length + end.len();
            }
            return Some(Section {
                label,
                body: body.map(|length| &text[..length]),
                line,
            });
        }
    }
}

fn decoded(section: &Section<'_>) -> Result<Vec<u8>, &'static str> {
    let body = section.body.ok_or("has no END line")?;
    let body: Vec<u8> = body
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let der = BASE64.decode(body).map_err(|_| "is not Base64")?;
    if der.is_empty() {
        return Err("is empty");
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
                return Err("is not trusted for servers, as it says itself");
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nMAMC\nAQE=\n-----END CERTIFICATE-----\n";
    const TWO: &str = "-----BEGIN CERTIFICATE-----\nMAMCAQI=\n-----END CERTIFICATE-----\n";

    /// The last byte of each certificate, and its line.
    fn read(file: &str) -> Vec<(u8, usize)> {
        certificates(file.as_bytes())
            .unwrap_or_else(|cause| panic!("{file:?}: {cause}"))
            .iter()
            .map(|found| (*found.certificate.last().unwrap(), found.place.line))
            .collect()
    }

    #[test]
    fn no_certificate_of_a_bundle_is_passed_over() {
        let marked = |text: &str| format!("\u{feff}{text}");
        let joined = format!("{}{TWO}", ONE.trim_end());
        for (file, expected) in [
            (format!("{ONE}{TWO}"), vec![(1, 1), (2, 5)]),
            (marked(&format!("{ONE}{TWO}")), vec![(1, 1), (2, 5)]),
            (format!("{ONE}{}", marked(TWO)), vec![(1, 1), (2, 5)]),
            (joined, vec![(1, 1), (2, 4)]),
            (ONE.replace('\n', "\r\n"), vec![(1, 1)]),
            (
                format!("{ONE}{TWO}").replace('\n', "\r"),
                vec![(1, 1), (2, 5)],
            ),
            (format!("CN=Root é\n{ONE}"), vec![(1, 2)]),
            (ONE.replace('\n', "\n    "), vec![(1, 1)]),
            (ONE.replace('=', ""), vec![(1, 1)]),
            (ONE.replace("CERT", "X509 CERT"), vec![(1, 1)]),
            (ONE.replace("CERT", "X.509 CERT"), vec![(1, 1)]),
            (ONE.replace("CERT", "TRUSTED CERT"), vec![(1, 1)]),
            (
                format!("{}{TWO}", ONE.replace("CERTIFICATE", "DH PARAMETERS")),
                vec![(2, 5)],
            ),
            (
                format!("{}{TWO}", ONE.replace("-----B", "# -----B")),
                vec![(2, 5)],
            ),
        ] {
            assert_eq!(read(&file), expected, "{file:?}");
        }
    }

    #[test]
    fn a_broken_certificate_names_its_place() {
        for (file, cause) in [
            (
                format!("{ONE}{}", TWO.replace("MAM", "M*M")),
                "certificate 2 (line 5) is not Base64",
            ),
            (
                format!("{ONE}{}", TWO.replace("--END", "--ENDE")),
                "certificate 2 (line 5) has no END line",
            ),
            (
                format!("{}{TWO}", ONE.replace("END", "")),
                "certificate 1 (line 1) has no END line",
            ),
            (
                ONE.replace("MAMC\nAQE=\n", ""),
                "certificate 1 (line 1) is empty",
            ),
            (String::new(), "no PEM certificate"),
            (
                ONE.replace("CERTIFICATE", "PRIVATE KEY"),
                "no PEM certificate",
            ),
        ] {
            let said = certificates(file.as_bytes()).unwrap_err();
            assert!(said.contains(cause), "{file:?}: {said}");
        }
        let utf16 = certificates(&[0xff, 0xfe, b'-', 0]).unwrap_err();
        assert!(utf16.contains("UTF-16"), "{utf16}");
        let der = certificates(&[0x30, 0x82, 1, 0]).unwrap_err();
        assert!(der.contains("DER"), "{der}");
    }

    #[test]
    fn the_trust_of_a_trusted_certificate_counts() {
        const SERVERS: [u8; 10] = [0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 3, 1];
        const CLIENTS: [u8; 10] = [0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 3, 2];
        let certificate = [0x30, 3, 2, 1, 1];
        let with = |tag: u8, purpose: [u8; 10]| {
            let trust = [&[0x30, 12, tag, 10], &purpose[..]].concat();
            without_trust(&[&certificate[..], &trust].concat())
        };
        let accepted = Ok(certificate.to_vec());
        assert_eq!(without_trust(&certificate), accepted);
        assert_eq!(with(0x30, SERVERS), accepted);
        assert_eq!(with(0xa0, CLIENTS), accepted);
        assert!(with(0x30, CLIENTS).is_err());
        assert!(with(0xa0, SERVERS).is_err());
        assert!(without_trust(&[0x30, 3, 2, 1, 1, 0x30]).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(-----|BEGIN |END |CERTIFICATE|TRUSTED |[MA=\\r\\n #]|\u{feff}){0,40}") {
            let _ = certificates(text.as_bytes());
        }

        #[test]
        fn any_trust_is_read_or_refused(der in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = without_trust(&der);
        }
    }
}
