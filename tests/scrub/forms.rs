//! The forms in which one document contains another: their encoders, which also encode the mask, and their
//! decoders. Independent of the agent's code.

use std::fmt;

use crate::node::{ARCHIVE, Node, TOKEN};
use crate::packers::Packer;

/// An encoding of a document.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// Indented lines, as in a block of YAML.
    Indent(usize),
    /// Base64 in lines.
    Base64(Base64),
    /// RFC 2045 section 6.7.
    Quoted {
        /// Line ending.
        eol: &'static str,
        /// Longest line.
        width: usize,
        /// Line endings are content and are encoded.
        binary: bool,
        /// Each character of a token as `=XX`.
        odd: bool,
    },
    /// The inside of a string of JSON.
    Json {
        /// Non-ASCII characters as `\uXXXX`.
        ascii: bool,
        /// `/` as `\/`.
        slash: bool,
        /// Each character of a token as `\uXXXX`.
        odd: bool,
    },
    /// UTF-16 without a byte order mark.
    Utf16 { big: bool },
    /// An archive.
    Packed(Packer),
}

/// A layout of base64.
#[derive(Clone, Debug)]
pub(crate) struct Base64 {
    /// The alphabet of RFC 4648 section 5.
    pub(crate) url: bool,
    /// Characters in a line; 0 for one line.
    pub(crate) width: usize,
    /// Text between two lines.
    pub(crate) between: String,
    /// True if the last group is padded with `=`.
    pub(crate) padded: bool,
}

impl Form {
    /// Returns the name in the table of counts.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Indent(_) => "yaml block",
            Self::Base64(Base64 { url: true, .. }) => "base64url",
            Self::Base64(Base64 { width: 0, .. }) => "base64",
            Self::Base64(layout) if layout.between.contains('\\') => "base64 folded",
            Self::Base64(layout) if layout.between.ends_with([' ', '\t']) => "base64 indented",
            Self::Base64(_) => "base64 wrapped",
            Self::Quoted { odd: false, .. } => "quoted-printable",
            Self::Json { odd: false, .. } => "json",
            Self::Quoted { .. } | Self::Json { .. } => "escaped token",
            Self::Utf16 { .. } => "utf-16",
            Self::Packed(packer) => packer.name(),
        }
    }

    /// Returns whether the length may change if the form is the complete file.
    pub(crate) fn is_archive(&self) -> bool {
        matches!(self, Self::Packed(_))
    }

    /// Returns whether the form counts as a layer.
    pub(crate) fn is_layer(&self) -> bool {
        !matches!(self, Self::Indent(_))
    }

    /// Returns whether a file with a token in this form may stay unchanged. If the encoding of a character has
    /// more than one byte, another character may not fit in its place.
    pub(crate) fn may_be_left(&self) -> bool {
        match self {
            Self::Packed(_)
            | Self::Quoted { odd: true, .. }
            | Self::Json { odd: true, .. }
            | Self::Json { slash: true, .. } => true,
            Self::Base64(layout) => layout.between.contains('\\'),
            _ => false,
        }
    }

    /// Returns the encoding of `inner`, and its mask.
    pub(crate) fn encode(&self, inner: &Node) -> (Vec<u8>, Vec<u8>) {
        let mut out = Out::default();
        match self {
            Self::Indent(width) => indent(inner, *width, &mut out),
            Self::Base64(layout) => layout.encode(inner, &mut out),
            Self::Quoted {
                eol,
                width,
                binary,
                odd,
            } => quote(inner, eol, *width, (*binary, *odd), &mut out),
            Self::Json { ascii, slash, odd } => json(inner, [*ascii, *slash, *odd], &mut out),
            Self::Utf16 { big } => {
                for (c, mark) in chars(inner) {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let bytes = [unit.to_le_bytes(), unit.to_be_bytes()][usize::from(*big)];
                        out.put(bytes, mark);
                    }
                }
            }
            Self::Packed(packer) => {
                let has_token = |mask: &[u8]| mask.iter().any(|mark| *mark != 0);
                let mut rest = 0;
                for end in packer.cuts(inner.bytes.len()) {
                    let mark = if has_token(&inner.mask[rest..end]) {
                        ARCHIVE
                    } else {
                        0
                    };
                    out.put(packer.pack(&inner.bytes[rest..end]), mark);
                    rest = end;
                }
            }
        }
        (out.bytes, out.mask)
    }

    /// Decodes `bytes`.
    ///
    /// # Errors
    /// The bytes are not valid.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let text = || String::from_utf8(bytes.to_vec()).map_err(|_| format!("{self}: no text"));
        Ok(match self {
            Self::Indent(width) => {
                let spaces = format!("\n{}", " ".repeat(*width));
                text()?.replace(&spaces, "\n").into_bytes()
            }
            Self::Base64(layout) => layout.decode(&text()?)?,
            Self::Quoted { eol, binary, .. } => unquote(&text()?, eol, *binary)?,
            Self::Json { .. } => unescape(&text()?)?.into_bytes(),
            Self::Utf16 { big } => {
                let unit = |pair: &[u8]| match *pair {
                    [a, b] if *big => Ok(u16::from_be_bytes([a, b])),
                    [a, b] => Ok(u16::from_le_bytes([a, b])),
                    _ => Err("half a unit".to_owned()),
                };
                let units = bytes.chunks(2).map(unit).collect::<Result<Vec<_>, _>>()?;
                String::from_utf16(&units)
                    .map_err(|error| error.to_string())?
                    .into_bytes()
            }
            Self::Packed(packer) => packer.unpack(bytes)?,
        })
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    mask: Vec<u8>,
}

impl Out {
    fn put(&mut self, bytes: impl AsRef<[u8]>, mark: u8) {
        self.bytes.extend_from_slice(bytes.as_ref());
        self.mask.resize(self.bytes.len(), mark);
    }
}

/// Returns each character of a text and the mask of its bytes.
fn chars(node: &Node) -> impl Iterator<Item = (char, u8)> {
    let text = std::str::from_utf8(&node.bytes).expect("the generator encodes text alone so");
    text.char_indices().map(|(at, c)| {
        let marks = &node.mask[at..at + c.len_utf8()];
        (c, marks.iter().fold(0, |all, mark| all | mark))
    })
}

/// Indents each line except empty lines and the first, which the outer document indents.
fn indent(inner: &Node, width: usize, out: &mut Out) {
    let mut is_start = false;
    for (byte, mark) in inner.bytes.iter().zip(&inner.mask) {
        if is_start && *byte != b'\n' && *byte != b'\r' {
            out.put(" ".repeat(width), 0);
        }
        is_start = *byte == b'\n';
        out.put([*byte], *mark);
    }
}

impl Base64 {
    fn alphabet(&self) -> &'static [u8; 64] {
        const STANDARD: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        if self.url { URL } else { STANDARD }
    }

    fn encode(&self, inner: &Node, out: &mut Out) {
        let bytes = &inner.bytes;
        let at = |index: usize| u16::from(bytes.get(index).copied().unwrap_or(0));
        let mark = |index: usize| inner.mask.get(index).copied().unwrap_or(0);
        let count = (bytes.len() * 8).div_ceil(6);
        let padded = if self.padded {
            count.next_multiple_of(4)
        } else {
            count
        };
        for digit in 0..padded {
            if self.width > 0 && digit > 0 && digit % self.width == 0 {
                out.put(&self.between, 0);
            }
            if digit >= count {
                out.put("=", 0);
                continue;
            }
            let (byte, shift) = (digit * 6 / 8, digit * 6 % 8);
            let pair = (at(byte) << 8) | at(byte + 1);
            let value = (pair >> (10 - shift)) & 63;
            let reaches = if shift > 2 { mark(byte + 1) } else { 0 };
            out.put([self.alphabet()[usize::from(value)]], mark(byte) | reaches);
        }
    }

    fn decode(&self, text: &str) -> Result<Vec<u8>, String> {
        let one_line = if self.width > 0 {
            text.replace(&self.between, "")
        } else {
            text.to_owned()
        };
        let digits = one_line.trim_end_matches('=');
        let (mut out, mut buffer, mut bits) = (Vec::new(), 0_u32, 0);
        for digit in digits.bytes() {
            let value = self.alphabet().iter().position(|own| *own == digit);
            let value = value.ok_or_else(|| format!("{:?} is not base64", char::from(digit)))?;
            buffer = (buffer << 6) | u32::try_from(value).expect("below 64");
            bits += 6;
            if bits >= 8 {
                bits -= 8;
                out.push(u8::try_from(buffer >> bits & 255).expect("a byte"));
            }
        }
        if buffer & ((1 << bits) - 1) != 0 {
            return Err("bits behind the last byte".into());
        }
        Ok(out)
    }
}

fn quote(inner: &Node, eol: &str, width: usize, (is_binary, is_odd): (bool, bool), out: &mut Out) {
    let mut column = 0;
    for (at, byte) in inner.bytes.iter().enumerate() {
        let mark = inner.mask[at];
        if *byte == b'\n' && !is_binary {
            out.put(eol, mark);
            column = 0;
            continue;
        }
        let is_last = matches!(inner.bytes.get(at + 1), None | Some(b'\n' | b'\r'));
        let is_literal = match byte {
            b'=' => false,
            b' ' | b'\t' => !is_last,
            33..=126 => !(is_odd && mark & TOKEN != 0),
            _ => false,
        };
        let unit = if is_literal {
            vec![*byte]
        } else {
            format!("={byte:02X}").into_bytes()
        };
        if column + unit.len() > width - 1 {
            out.put(format!("={eol}"), 0);
            column = 0;
        }
        column += unit.len();
        out.put(unit, mark);
    }
}

fn unquote(text: &str, eol: &str, is_binary: bool) -> Result<Vec<u8>, String> {
    let mut joined = text.replace(&format!("={eol}"), "");
    if !is_binary {
        joined = joined.replace(eol, "\n");
    }
    let mut out = Vec::new();
    let mut bytes = joined.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'=' {
            out.push(byte);
            continue;
        }
        let digits: Vec<u8> = bytes.by_ref().take(2).collect();
        let digits = String::from_utf8(digits).map_err(|error| error.to_string())?;
        let byte = u8::from_str_radix(&digits, 16);
        out.push(byte.map_err(|_| format!("={digits} is not a byte"))?);
    }
    Ok(out)
}

fn json(inner: &Node, [ascii, slash, odd]: [bool; 3], out: &mut Out) {
    for (c, mark) in chars(inner) {
        let short = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '/' if slash => "\\/",
            _ => "",
        };
        let is_long = c.is_control() || (ascii && !c.is_ascii()) || (odd && mark & TOKEN != 0);
        if !short.is_empty() {
            out.put(short, mark);
        } else if is_long {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.put(format!("\\u{unit:04x}"), mark);
            }
        } else {
            out.put(c.encode_utf8(&mut [0; 4]), mark);
        }
    }
}

fn unescape(text: &str) -> Result<String, String> {
    serde_json::from_str(&format!("\"{text}\"")).map_err(|error| error.to_string())
}
