//! The layers in which a secret can lie in user data, each inside each other: archives, base64, escapes of
//! JSON and of quoted-printable, UTF-16, and plain text.
//!
//! A layer decodes a copy, has it searched, and takes back what was changed there, byte for byte: what it
//! writes has the length of what was there, and what nothing was changed in is not written.

use std::fmt;

use tokio::time::Instant;
use zeroize::Zeroizing;

use super::archive::{self, Kind};
use super::base64;
use super::escapes::{Json, QuotedPrintable, Utf16Be, Utf16Le, unescape};
use super::wanted::Wanted;

/// Compressed parts in encoded messages in compressed, encoded user data in JSON: nothing real goes deeper.
pub(super) const DEEPEST: usize = 8;
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
    /// It is packed deeper than [`DEEPEST`].
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
            Self::Deep => write!(
                f,
                "it is packed deeper than is searched, which is {DEEPEST} times and in {} MiB of memory",
                MEMORY >> 20
            ),
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
            memory: MEMORY,
            closer_looks: MOST_CLOSER_LOOKS,
            deadline,
            is_late: false,
        }
    }

    /// Notes why something stays.
    pub(super) fn note(&mut self, why: Remains) {
        if self.remains.len() < MOST_REASONS && !self.remains.contains(&why) {
            self.remains.push(why);
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
        if depth > 0 {
            let below = depth - 1;
            for of_layer in [
                unescape::<Json>(self, bytes, below, is_open),
                unescape::<QuotedPrintable>(self, bytes, below, is_open),
                unescape::<Utf16Le>(self, bytes, below, is_open),
                unescape::<Utf16Be>(self, bytes, below, is_open),
                base64::visit(self, bytes, below, is_open),
            ] {
                visit.add(of_layer.changed, of_layer.cut);
            }
        }
        let found = self.wanted.blot_out(bytes);
        self.found += found;
        visit.changed |= found > 0;
        visit
    }
}

/// Bytes that were decoded; zeroed when dropped. It is given back to the search that it is of.
pub(super) struct Buffer(pub(super) Zeroizing<Vec<u8>>, usize);
