//! A document and its expected result: which of its bytes encode the token, and the decoded content of its
//! parts.

use std::ops::Range;

use crate::forms::Form;

/// The byte encodes at least one bit of a token.
pub(crate) const TOKEN: u8 = 1;
/// The byte belongs to an archive with a token in it.
pub(crate) const ARCHIVE: u8 = 2;

/// Bytes, and a mask for each.
#[derive(Clone, Default)]
pub(crate) struct Node {
    pub(crate) bytes: Vec<u8>,
    /// [`TOKEN`] and [`ARCHIVE`] for each byte; zero if the byte must not change.
    pub(crate) mask: Vec<u8>,
    /// In the order of their places, without overlap.
    pub(crate) parts: Vec<Part>,
}

/// A range of a node that encodes another node.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) range: Range<usize>,
    pub(crate) form: Form,
    pub(crate) inner: Node,
}

impl Node {
    /// Returns a node without a token.
    pub(crate) fn of(bytes: impl AsRef<[u8]>) -> Self {
        let mut node = Self::default();
        node.push(bytes);
        node
    }

    /// Appends bytes that are not part of a token.
    pub(crate) fn push(&mut self, bytes: impl AsRef<[u8]>) {
        self.push_marked(bytes, 0);
    }

    /// Appends a token.
    pub(crate) fn push_token(&mut self, token: &str) {
        self.push_marked(token, TOKEN);
    }

    fn push_marked(&mut self, bytes: impl AsRef<[u8]>, mark: u8) {
        self.bytes.extend_from_slice(bytes.as_ref());
        self.mask.resize(self.bytes.len(), mark);
    }

    /// Overwrites bytes with those of a token.
    pub(crate) fn mark(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.mask[at..at + bytes.len()].fill(TOKEN);
    }

    /// Appends another document unchanged.
    pub(crate) fn append(&mut self, node: Self) {
        let start = self.bytes.len();
        self.bytes.extend(node.bytes);
        self.mask.extend(node.mask);
        self.parts.extend(node.parts.into_iter().map(|part| Part {
            range: part.range.start + start..part.range.end + start,
            ..part
        }));
    }

    /// Appends another document in this form.
    pub(crate) fn enclose(&mut self, form: Form, inner: Self) {
        let start = self.bytes.len();
        let (bytes, mask) = form.encode(&inner);
        assert_eq!(bytes.len(), mask.len());
        self.bytes.extend(bytes);
        self.mask.extend(mask);
        self.parts.push(Part {
            range: start..self.bytes.len(),
            form,
            inner,
        });
    }

    /// Returns a document that consists of this form.
    pub(crate) fn in_form(self, form: Form) -> Self {
        let mut outer = Self::default();
        outer.enclose(form, self);
        outer
    }

    /// Returns whether a token is anywhere in it.
    pub(crate) fn has_token(&self) -> bool {
        self.mask.iter().any(|mark| *mark != 0)
    }

    /// Returns whether each byte is text that JSON, YAML and UTF-16 can represent.
    pub(crate) fn is_text(&self) -> bool {
        std::str::from_utf8(&self.bytes).is_ok_and(|text| {
            text.chars()
                .all(|c| c == '\n' || c == '\r' || c == '\t' || !c.is_control())
        })
    }

    /// Returns whether the node consists of archives only, so that its length may change.
    pub(crate) fn is_archive(&self) -> bool {
        matches!(self.parts.as_slice(), [part]
            if part.form.is_archive() && part.range == (0..self.bytes.len()))
    }

    /// Checks a complete file.
    ///
    /// # Errors
    /// The first byte that must not have changed, or the part that is no longer readable.
    pub(crate) fn check_file(&self, after: &[u8]) -> Result<(), String> {
        match self.parts.as_slice() {
            [part] if self.is_archive() && after != self.bytes => part.check(after),
            _ => self.check(after),
        }
    }

    /// Returns the same document with `x` for each character of a token, except in archives and in forms whose
    /// length would change.
    pub(crate) fn without(&self) -> Self {
        let mut node = self.clone();
        for (byte, mark) in node.bytes.iter_mut().zip(&self.mask) {
            *byte = if *mark == 0 { *byte } else { b'x' };
        }
        for part in &mut node.parts {
            let mut bytes = self.bytes[part.range.clone()].to_vec();
            if part.inner.has_token() && !part.has_archive() {
                part.inner = part.inner.without();
                let (encoded, _) = part.form.encode(&part.inner);
                if encoded.len() == bytes.len() {
                    bytes = encoded;
                }
            }
            node.bytes[part.range.clone()].copy_from_slice(&bytes);
        }
        node
    }

    fn check(&self, after: &[u8]) -> Result<(), String> {
        if after.len() != self.bytes.len() {
            let (was, is) = (self.bytes.len(), after.len());
            return Err(format!("{was} bytes became {is}"));
        }
        let mut parts = self.parts.iter().peekable();
        for (at, (was, is)) in self.bytes.iter().zip(after).enumerate() {
            while parts.next_if(|part| part.range.end <= at).is_some() {}
            let is_leaf = parts.peek().is_none_or(|part| at < part.range.start);
            if was == is {
                continue;
            }
            if self.mask[at] == 0 {
                return Err(format!("byte {at} was {was:#04x} and is {is:#04x}"));
            }
            if is_leaf && !(is.is_ascii_alphanumeric() || b"_-+/".contains(is)) {
                return Err(format!("byte {at} of a token is {is:#04x}"));
            }
        }
        self.parts
            .iter()
            .filter(|part| after[part.range.clone()] != self.bytes[part.range.clone()])
            .try_for_each(|part| {
                part.check(&after[part.range.clone()])
                    .map_err(|error| format!("{} at {}: {error}", part.form, part.range.start))
            })
    }
}

impl Part {
    /// Returns whether the node is or contains an archive.
    pub(crate) fn has_archive(&self) -> bool {
        self.form.is_archive() || self.inner.parts.iter().any(Self::has_archive)
    }

    fn check(&self, after: &[u8]) -> Result<(), String> {
        let content = self.form.decode(after)?;
        self.inner
            .check(&content)
            .map_err(|error| format!("inside of {}: {error}", self.form))
    }
}
