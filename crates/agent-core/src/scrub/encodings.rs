//! The layers that can contain a secret in user data, nested in any order: archives, base64, escapes of
//! JSON and of quoted-printable, UTF-16, and plain text.
//!
//! A layer decodes a copy, searches the copy, and writes changed bytes back. The written bytes have the
//! length of the old bytes, and unchanged parts are not written.

pub(super) mod archive;
mod base64;
mod escapes;
pub(super) mod window;

use std::fmt;
use std::ops::Range;

use tokio::time::Instant;
use zeroize::Zeroizing;

use super::matcher::SecretMatcher;
use archive::Kind;
use escapes::{IndentedQuotedPrintable, Json, QuotedPrintable, Utf16Be, Utf16Le, unescape};

/// The deepest nesting of layers. The deepest real case is a compressed part in an encoded message in
/// compressed, encoded user data in JSON. A text with two kinds of escapes is decoded in both, one inside
/// the other, so that at least 8 real layers are searched.
pub(super) const DEEPEST: usize = 12;
/// The memory limit for decoded bytes, with the buffers of the stream, in bytes.
pub(super) const MEMORY: usize = 16 << 20;
/// The number of possible archives that are inspected although their beginning does not identify them.
const MOST_INSPECTIONS: usize = 1000;
/// The number of different obstacles that are reported for a file.
const MOST_REASONS: usize = 4;

/// A search for secrets in one file.
pub(super) struct Search<'w> {
    pub(super) matcher: &'w SecretMatcher,
    /// The number of matches.
    pub(super) found: usize,
    /// The reasons why a secret may stay in the file.
    pub(super) obstacles: Vec<Obstacle>,
    /// The number of matches that were not changed.
    pub(super) stuck: usize,
    /// True in a layer where the form of a token does not show its end.
    pub(super) is_for_exact_only: bool,
    memory: usize,
    inspections: usize,
    deadline: Instant,
    is_late: bool,
}

/// A reason why a file may still contain a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The secret is in an archive inside a document. A new archive does not fit in the same length.
    Packed(Kind),
    /// The secret is in an archive of a kind that this program can read but not write.
    Archive(Kind),
    /// The secret has escapes that no other escape of the same length can replace.
    Escaped,
    /// An archive is cut off or damaged: the rest could not be read.
    Broken(Kind),
    /// An archive inside a document is longer than the window.
    Long,
    /// An archive needs more memory than the limit.
    Memory(Kind),
    /// The nested layers need more memory than the limit of a run.
    Deep,
    /// Too many places in the file look like the beginning of an archive.
    Crowded,
    /// The time limit was reached.
    Late,
    /// The file was changed faster than it could be read.
    Unsteady,
    /// The secret is in more places than one run changes.
    Many,
}

impl Obstacle {
    /// Returns true when the bytes in question stay unchanged, and may look like any text.
    const fn is_stuck(self) -> bool {
        matches!(
            self,
            Self::Packed(_)
                | Self::Archive(_)
                | Self::Broken(_)
                | Self::Memory(_)
                | Self::Escaped
                | Self::Crowded
        )
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packed(kind) => write!(
                f,
                "contains the token in {kind} data that cannot be changed without a change of its length"
            ),
            Self::Archive(kind) => write!(
                f,
                "contains the token in {kind} data, which can be searched but not written"
            ),
            Self::Escaped => {
                f.write_str("contains the token with escapes that cannot be changed at the same length")
            }
            Self::Broken(kind) => write!(
                f,
                "contains {kind} data that is cut off or damaged, and was searched up to that place"
            ),
            Self::Long => f.write_str(
                "contains compressed data that is too long to search; nothing after it was changed",
            ),
            Self::Memory(kind) => write!(
                f,
                "contains {kind} data that needs more than 16 MiB of memory to search"
            ),
            Self::Deep => {
                f.write_str("contains nested data that needs more than 16 MiB of memory to search")
            }
            Self::Crowded => f.write_str(
                "has too many places that look like the beginning of compressed data to search all of them",
            ),
            Self::Late => f.write_str("the time limit was reached before the search was complete"),
            Self::Unsteady => f.write_str("was changed several times during the search"),
            Self::Many => f.write_str("contains the token in more places than one run changes"),
        }
    }
}

/// The result of one layer.
#[derive(Default)]
pub(super) struct Visit {
    /// A match was masked.
    pub(super) changed: bool,
    /// The offset of an encoded part that continues after the end of the bytes.
    pub(super) cut: Option<usize>,
}

impl Visit {
    /// Adds the result of another layer.
    pub(super) fn add(&mut self, changed: bool, cut: Option<usize>) {
        self.changed |= changed;
        self.cut = match (self.cut, cut) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

impl<'w> Search<'w> {
    pub(super) fn new(matcher: &'w SecretMatcher, deadline: Instant) -> Self {
        Self {
            matcher,
            found: 0,
            obstacles: Vec::new(),
            stuck: 0,
            is_for_exact_only: false,
            memory: MEMORY,
            inspections: MOST_INSPECTIONS,
            deadline,
            is_late: false,
        }
    }

    /// Records why a secret may stay.
    pub(super) fn note(&mut self, cause: Obstacle) {
        self.stuck += usize::from(cause.is_stuck());
        if self.obstacles.len() < MOST_REASONS && !self.obstacles.contains(&cause) {
            self.obstacles.push(cause);
        }
    }

    /// Returns true when the time limit is reached, and records that.
    pub(super) fn is_late(&mut self) -> bool {
        if !self.is_late && Instant::now() >= self.deadline {
            self.is_late = true;
            self.note(Obstacle::Late);
        }
        self.is_late
    }

    /// Returns true while another expensive inspection is allowed, and counts it.
    pub(super) fn may_inspect(&mut self) -> bool {
        let rest = self.inspections.checked_sub(1);
        self.inspections = rest.unwrap_or_default();
        rest.is_some()
    }

    /// Returns a buffer of up to `size` bytes, within the memory limit.
    pub(super) fn buffer(&mut self, size: usize) -> Option<Buffer> {
        self.reserve(size)
            .then(|| Buffer(Zeroizing::new(Vec::with_capacity(size)), size))
    }

    /// Releases the memory of a buffer.
    pub(super) fn release(&mut self, buffer: Buffer) {
        self.memory += buffer.1;
        drop(buffer);
    }

    /// Reserves `size` bytes, within the memory limit.
    pub(super) fn reserve(&mut self, size: usize) -> bool {
        let rest = self.memory.checked_sub(size);
        self.memory = rest.unwrap_or(self.memory);
        rest.is_some()
    }

    /// Releases `size` bytes.
    pub(super) fn release_bytes(&mut self, size: usize) {
        self.memory += size;
    }

    /// Masks the secrets in `bytes`, and in all layers inside them. `is_open` means that the input
    /// continues after `bytes`.
    pub(super) fn visit(&mut self, bytes: &mut [u8], depth: usize, is_open: bool) -> Visit {
        let mut visit = Visit::default();
        if bytes.len() < self.matcher.shortest() || self.is_late() {
            return visit;
        }
        // Archives first: a change in the bytes of an archive that stores its content uncompressed would
        // break it. The bytes between archives are text, or a layer that contains them.
        let archives = archive::visit(self, bytes, depth, is_open);
        visit.add(archives.changed, archives.cut);
        let mut begin = 0;
        let end = bytes.len();
        let behind_all = std::iter::once(end..end);
        for archive in archives.places.into_iter().chain(behind_all) {
            let part = &mut bytes[begin..archive.start];
            let is_last = archive.start == end;
            let cut_before = visit.cut.map(|cut| cut.saturating_sub(begin));
            let of_part = self.visit_text(part, depth, is_open && is_last, cut_before);
            visit.add(of_part.changed, of_part.cut.map(|cut| cut + begin));
            begin = archive.end;
        }
        visit
    }

    fn visit_text(
        &mut self,
        bytes: &mut [u8],
        depth: usize,
        is_open: bool,
        cut: Option<usize>,
    ) -> Visit {
        let mut visit = Visit::default();
        if bytes.len() < self.matcher.shortest() {
            return visit;
        }
        // An archive that is cut off here is searched together with its rest, in the next window.
        let end = cut.unwrap_or(bytes.len()).min(bytes.len());
        let is_open = is_open && end == bytes.len();
        let bytes = &mut bytes[..end];
        let mut frozen = Vec::new();
        if depth > 0 {
            let below = depth - 1;
            for (unescape, is_for_forms) in [
                (unescape::<Json> as Unescape, true),
                (unescape::<IndentedQuotedPrintable>, false),
                (unescape::<QuotedPrintable>, true),
                (unescape::<Utf16Le>, true),
                (unescape::<Utf16Be>, true),
            ] {
                if !is_for_forms && self.matcher.has_forms() {
                    continue;
                }
                let of_layer = unescape(self, bytes, below, is_open, &mut frozen);
                visit.add(of_layer.changed, of_layer.cut);
            }
        }
        // Bytes that have to stay unchanged may look like plain text, and are skipped.
        let mut begin = 0;
        let end = bytes.len();
        let mut holes = frozen.clone();
        for hole in frozen.into_iter().chain(std::iter::once(end..end)) {
            if begin < hole.start {
                let is_open = is_open && hole.start == end;
                let of_part = self.visit_plain(&mut bytes[begin..hole.start], depth, is_open);
                visit.add(of_part.changed, of_part.cut.map(|cut| cut + begin));
            }
            begin = hole.end.max(begin);
        }
        if depth > 0 && self.matcher.has_forms() {
            // The rest of a token that has only the form is visible after all other tokens are masked.
            let of_layer =
                unescape::<IndentedQuotedPrintable>(self, bytes, depth - 1, is_open, &mut holes);
            visit.add(of_layer.changed, of_layer.cut);
        }
        visit
    }

    fn visit_plain(&mut self, bytes: &mut [u8], depth: usize, is_open: bool) -> Visit {
        let mut visit = Visit::default();
        if depth > 0 {
            visit = base64::visit(self, bytes, depth - 1, is_open);
        }
        let found = if self.is_for_exact_only {
            if self.matcher.has_form(bytes) {
                self.note(Obstacle::Escaped);
            }
            self.matcher.mask_exact(bytes)
        } else {
            self.matcher.mask(bytes)
        };
        self.found += found;
        visit.changed |= found > 0;
        visit
    }
}

/// The search of a text with one kind of escapes: an instance of [`unescape`].
type Unescape = fn(&mut Search<'_>, &mut [u8], usize, bool, &mut Vec<Range<usize>>) -> Visit;

/// A buffer of decoded bytes, zeroed when dropped. [`Search::release`] returns its memory.
pub(super) struct Buffer(pub(super) Zeroizing<Vec<u8>>, usize);
