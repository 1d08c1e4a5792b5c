//! The layers in which a secret can lie in user data, each inside each other: archives, base64, escapes of
//! JSON and of quoted-printable, UTF-16, and plain text.
//!
//! A layer decodes a copy, has it searched, and takes back what was changed there, byte for byte: what it
//! writes has the length of what was there, and what nothing was changed in is not written.

use std::fmt;
use std::ops::Range;

use tokio::time::Instant;
use zeroize::Zeroizing;

use super::archive::{self, Kind};
use super::base64;
use super::escapes::{IndentedQuotedPrintable, Json, QuotedPrintable, Utf16Be, Utf16Le, unescape};
use super::wanted::Wanted;

/// Compressed parts in encoded messages in compressed, encoded user data in JSON: nothing real goes deeper.
/// A text that has two kinds of escapes is looked at through both, one inside the other, so that real
/// layers are seen to a depth of 8 at least.
pub(super) const DEEPEST: usize = 12;
/// How much one run takes of the memory for what it decodes, the buffers of its stream included.
pub(super) const MEMORY: usize = 16 << 20;
/// So often something is looked into that does not show at once what it is.
const MOST_CLOSER_LOOKS: usize = 1000;
/// So many different reasons are told of one file.
const MOST_REASONS: usize = 4;

/// One search for what is wanted, in one file.
pub(super) struct Search<'w> {
    pub(super) wanted: &'w Wanted,
    /// How often it was found.
    pub(super) found: usize,
    /// Why some of it stays, or was not looked for.
    pub(super) remains: Vec<Remains>,
    /// How often something that was found was left as it is.
    pub(super) stuck: usize,
    /// A form alone is not enough now to tell where a token ends.
    pub(super) is_for_exact_only: bool,
    memory: usize,
    closer_looks: usize,
    deadline: Instant,
    is_late: bool,
}

/// Why a file may still hold what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remains {
    /// It is in an archive inside of a document, which has to keep its length, and cannot.
    Packed(Kind),
    /// It is in an archive of a kind that is read here, and not written.
    Archive(Kind),
    /// It is written with escapes that nothing of their length can stand for.
    Escaped,
    /// An archive breaks off, or is broken: what comes behind could not be read.
    Broken(Kind),
    /// An archive inside of a document is longer than what is held of one.
    Long,
    /// An archive takes more memory than a small host has to spare.
    Memory(Kind),
    /// What is packed in it takes more memory than there is for one run.
    Deep,
    /// Archives seem to begin in it wherever one looks.
    Crowded,
    /// No time was left.
    Late,
    /// It was changed faster than it could be read.
    Unsteady,
    /// It is in more places than are kept in mind.
    Many,
}

impl Remains {
    /// Whether what it is about has to stay as it is, and may look like any text.
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

impl fmt::Display for Remains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packed(kind) => write!(
                f,
                "it holds the token in {kind} data that cannot be changed without moving what is around it"
            ),
            Self::Archive(kind) => write!(f, "it holds the token in {kind} data, which can be searched and not written"),
            Self::Escaped => f.write_str("it holds the token with escapes that nothing of their length can replace"),
            Self::Broken(kind) => write!(f, "its {kind} data is broken off or damaged, and was searched up to there"),
            Self::Long => f.write_str("compressed data inside of it is too long to be searched there, and nothing behind it was changed"),
            Self::Memory(kind) => write!(f, "its {kind} data takes more than 16 MiB of memory to be searched"),
            Self::Deep => f.write_str("what is packed in it takes more than 16 MiB of memory to be searched"),
            Self::Crowded => f.write_str("too much in it looks like the begin of compressed data to look into all of it"),
            Self::Late => f.write_str("there was no time left to search all of it"),
            Self::Unsteady => f.write_str("it was changed again and again while it was searched"),
            Self::Many => f.write_str("it holds the token in more places than one run changes"),
        }
    }
}

/// What came of one layer.
#[derive(Default)]
pub(super) struct Visit {
    /// Something was blotted out.
    pub(super) changed: bool,
    /// Something begins here that goes on behind the end of what was given.
    pub(super) cut: Option<usize>,
}

impl Visit {
    /// Adds what came of a layer more.
    pub(super) fn add(&mut self, changed: bool, cut: Option<usize>) {
        self.changed |= changed;
        self.cut = match (self.cut, cut) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

impl<'w> Search<'w> {
    pub(super) fn new(wanted: &'w Wanted, deadline: Instant) -> Self {
        Self {
            wanted,
            found: 0,
            remains: Vec::new(),
            stuck: 0,
            is_for_exact_only: false,
            memory: MEMORY,
            closer_looks: MOST_CLOSER_LOOKS,
            deadline,
            is_late: false,
        }
    }

    /// Notes why something stays.
    pub(super) fn note(&mut self, cause: Remains) {
        self.stuck += usize::from(cause.is_stuck());
        if self.remains.len() < MOST_REASONS && !self.remains.contains(&cause) {
            self.remains.push(cause);
        }
    }

    /// Whether the time is over; that is noted then.
    pub(super) fn is_late(&mut self) -> bool {
        if !self.is_late && Instant::now() >= self.deadline {
            self.is_late = true;
            self.note(Remains::Late);
        }
        self.is_late
    }

    /// Whether something that takes its time may be looked into once more.
    pub(super) fn may_look_closer(&mut self) -> bool {
        let rest = self.closer_looks.checked_sub(1);
        self.closer_looks = rest.unwrap_or_default();
        rest.is_some()
    }

    /// A buffer of up to `size` bytes, if there is the memory for it.
    pub(super) fn buffer(&mut self, size: usize) -> Option<Buffer> {
        self.take(size)
            .then(|| Buffer(Zeroizing::new(Vec::with_capacity(size)), size))
    }

    /// Gives the memory of a buffer back.
    pub(super) fn give_back(&mut self, buffer: Buffer) {
        self.memory += buffer.1;
        drop(buffer);
    }

    /// Takes `size` bytes of the memory, if they are there.
    pub(super) fn take(&mut self, size: usize) -> bool {
        let rest = self.memory.checked_sub(size);
        self.memory = rest.unwrap_or(self.memory);
        rest.is_some()
    }

    /// Gives `size` bytes back.
    pub(super) fn give(&mut self, size: usize) {
        self.memory += size;
    }

    /// Blots out what is wanted in `bytes`, and in whatever is packed in them. `is_open` says that what
    /// `bytes` are the begin of goes on behind them.
    pub(super) fn visit(&mut self, bytes: &mut [u8], depth: usize, is_open: bool) -> Visit {
        let mut visit = Visit::default();
        if bytes.len() < self.wanted.shortest() || self.is_late() {
            return visit;
        }
        // Archives first: one that stores its content as it is would be broken by an edit of what is seen
        // of it. What is beside them is text, or what holds them.
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
        if bytes.len() < self.wanted.shortest() {
            return visit;
        }
        // What an archive begins in here that is cut off is looked at when the rest is there.
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
                if !is_for_forms && self.wanted.has_forms() {
                    continue;
                }
                let of_layer = unescape(self, bytes, below, is_open, &mut frozen);
                visit.add(of_layer.changed, of_layer.cut);
            }
        }
        // Where something had to stay, its bytes may look like the text that they are not.
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
        if depth > 0 && self.wanted.has_forms() {
            // What is left of a token by its form shows when all others are gone.
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
            if self.wanted.has_form(bytes) {
                self.note(Remains::Escaped);
            }
            self.wanted.blot_out_exact(bytes)
        } else {
            self.wanted.blot_out(bytes)
        };
        self.found += found;
        visit.changed |= found > 0;
        visit
    }
}

/// One of the ways to write text with escapes, as [`unescape`] searches it.
type Unescape = fn(&mut Search<'_>, &mut [u8], usize, bool, &mut Vec<Range<usize>>) -> Visit;

/// Bytes that were decoded; zeroed when dropped. It is given back to the search that it is of.
pub(super) struct Buffer(pub(super) Zeroizing<Vec<u8>>, usize);
