//! Archives inside a document: searches their content, and compresses a gzip member again at the same length.

use std::io::{self, Read, Write};
use std::ops::Range;

use flate2::{Compression, Crc, GzBuilder, GzHeader};
use memchr::memmem;
use zeroize::Zeroizing;

use super::window;
use super::{Buffer, Obstacle, Search};
pub(in crate::scrub) use crate::scrub::decoder::Kind;
use crate::scrub::decoder::{Decoder, Members};

/// The longest content that is compressed again, in bytes. Longer content is only searched, as a stream. User
/// data has 16 KiB to 1 MiB, by cloud.
const LONGEST_CONTENT: usize = 1 << 20;

/// The bytes at the beginning that identify an archive in nearly every case.
const LONGEST_BEGIN: usize = 1 << 10;

/// The archives in one layer.
#[derive(Default)]
pub(in crate::scrub) struct Archives {
    /// The ranges of the archives.
    pub(in crate::scrub) places: Vec<Range<usize>>,
    /// An archive was compressed again.
    pub(in crate::scrub) changed: bool,
    /// The offset of an archive that is cut off by the end of the bytes.
    pub(in crate::scrub) cut: Option<usize>,
}

/// The result for a place where an archive may begin.
enum Inspection {
    Archive { length: usize, changed: bool },
    CutOff,
    NoArchive,
}

/// Searches each archive in `bytes`, at any offset.
pub(in crate::scrub) fn visit(
    search: &mut Search<'_>,
    bytes: &mut [u8],
    depth: usize,
    is_open: bool,
) -> Archives {
    let mut archives = Archives::default();
    let mut candidates = Candidates::default();
    let mut at = 0;
    while let Some((begin, kind)) = candidates.next(bytes, at) {
        if search.is_late() {
            break;
        }
        match inspect(search, &mut bytes[begin..], kind, depth, is_open) {
            Inspection::Archive { length, changed } => {
                archives.places.push(begin..begin + length);
                archives.changed |= changed;
                at = begin + length;
            }
            Inspection::CutOff => {
                archives.cut = Some(begin);
                break;
            }
            Inspection::NoArchive => at = begin + 1,
        }
    }
    archives
}

/// Returns true when an archive, broken or not, begins anywhere in `bytes`.
pub(in crate::scrub) fn is_in(bytes: &[u8]) -> bool {
    let mut candidates = Candidates::default();
    let mut at = 0;
    while let Some((begin, kind)) = candidates.next(bytes, at) {
        let rest = &bytes[begin..];
        if begins(kind, &rest[..rest.len().min(LONGEST_BEGIN)]) != Some(false) {
            return true;
        }
        at = begin + 1;
    }
    false
}

/// The next offset at which an archive of each kind may begin; after the end if there is none. No byte is
/// searched twice.
#[derive(Default)]
struct Candidates([usize; Kind::ALL.len()]);

impl Candidates {
    /// Returns the next place at or after `at` that looks like the beginning of an archive.
    fn next(&mut self, bytes: &[u8], at: usize) -> Option<(usize, Kind)> {
        for (place, kind) in self.0.iter_mut().zip(Kind::ALL) {
            let is_it = |place: usize| Kind::of(&bytes[place..]) == Some(kind);
            if *place < at || *place == 0 {
                let begin = at.min(bytes.len());
                let mut places = memmem::find_iter(&bytes[begin..], kind.magic());
                let next = places.find(|place| is_it(begin + place));
                *place = next.map_or(usize::MAX, |place| begin + place);
            }
        }
        let places = self.0.iter().copied().zip(Kind::ALL);
        places
            .filter(|(place, _)| *place < bytes.len())
            .min_by_key(|(place, _)| *place)
    }
}

fn inspect(
    search: &mut Search<'_>,
    bytes: &mut [u8],
    kind: Kind,
    depth: usize,
    is_open: bool,
) -> Inspection {
    if bytes.len() > LONGEST_BEGIN || !is_open {
        match begins(kind, &bytes[..bytes.len().min(LONGEST_BEGIN)]) {
            Some(true) => {}
            // The three bytes of gzip's magic number also occur by chance.
            Some(false) if kind == Kind::Gzip => return Inspection::NoArchive,
            // A header of kilobytes, or one of many places that look like a header.
            _ if search.may_inspect() => {}
            _ => return unseen(search, Obstacle::Crowded, bytes.len()),
        }
    }
    match search.buffer(LONGEST_CONTENT.min(1024 * bytes.len())) {
        Some(mut content) => {
            let inspection = unpack(search, bytes, kind, depth, is_open, &mut content);
            search.release(content);
            inspection
        }
        None => unseen(search, Obstacle::Memory(kind), bytes.len()),
    }
}

/// Records a possible archive that is not searched. The bytes after its beginning may look like any text,
/// and stay unchanged.
fn unseen(search: &mut Search<'_>, cause: Obstacle, length: usize) -> Inspection {
    search.note(cause);
    Inspection::Archive {
        length,
        changed: false,
    }
}

/// Returns whether any content can be decompressed: most places that look like an archive are none. `None`
/// when more bytes are necessary.
fn begins(kind: Kind, mut bytes: &[u8]) -> Option<bool> {
    let read = Decoder::new(kind, &mut bytes).map(|mut decoder| decoder.read(&mut [0; 64]));
    match read {
        Ok(Ok(_)) => Some(true),
        Ok(Err(error)) | Err(error) if error.kind() == io::ErrorKind::OutOfMemory => Some(true),
        Ok(Err(_)) | Err(_) if bytes.is_empty() => None,
        Ok(Err(_)) | Err(_) => Some(false),
    }
}

fn unpack(
    search: &mut Search<'_>,
    bytes: &mut [u8],
    kind: Kind,
    depth: usize,
    is_open: bool,
    content: &mut Buffer,
) -> Inspection {
    let content = &mut *content.0;
    let found = search.found;
    let below = depth.saturating_sub(1);
    if !search.reserve(kind.memory()) {
        return unseen(search, Obstacle::Memory(kind), bytes.len());
    }
    let unpacked = members(bytes, kind, content);
    search.release_bytes(kind.memory());
    let length = match unpacked {
        Unpacked::Complete(members) => {
            let length = members.last().map_or(0, |member| member.packed.end);
            if search.visit(content, below, false).changed && pack(bytes, kind, &members, content) {
                let changed = true;
                return Inspection::Archive { length, changed };
            }
            length
        }
        // Longer content is searched as a stream, and cannot be compressed again.
        Unpacked::Long => {
            if !search.reserve(kind.memory()) {
                return unseen(search, Obstacle::Memory(kind), bytes.len());
            }
            let mut rest: &[u8] = bytes;
            let mut all = Members::embedded(kind, &mut rest);
            let mut forget = |_: u64, _: &[u8], _: &[u8]| Ok(());
            let ended = window::stream(search, &mut all, below, window::INNER, &mut forget);
            drop(all);
            search.release_bytes(kind.memory());
            if ended.is_err() && is_open && rest.is_empty() {
                return Inspection::CutOff;
            }
            bytes.len() - rest.len()
        }
        Unpacked::Broken(_, error) if error.kind() == io::ErrorKind::OutOfMemory => {
            return unseen(search, Obstacle::Memory(kind), bytes.len());
        }
        Unpacked::Broken(_, error) if is_open && error.kind() == io::ErrorKind::UnexpectedEof => {
            return Inspection::CutOff;
        }
        // The readable part is searched, and not changed.
        Unpacked::Broken(length, _) => {
            search.visit(content, below, false);
            if search.found > found {
                return unseen(search, Obstacle::Broken(kind), length);
            }
            // The archive may store its content uncompressed, and be complete in another layer.
            let is_suspect = kind != Kind::Gzip || !content.is_empty();
            if is_suspect && search.matcher.mask(&mut Zeroizing::new(bytes.to_vec())) > 0 {
                search.found += 1;
                return unseen(search, Obstacle::Broken(kind), bytes.len());
            }
            return Inspection::NoArchive;
        }
    };
    if search.found > found {
        search.note(match kind {
            Kind::Gzip => Obstacle::Packed(kind),
            _ => Obstacle::Archive(kind),
        });
    }
    Inspection::Archive {
        length,
        changed: false,
    }
}

/// The result of decompression.
enum Unpacked {
    Complete(Vec<Member>),
    /// The content is longer than the buffer.
    Long,
    /// The number of bytes that could be read; [`io::ErrorKind::UnexpectedEof`] when the archive is cut off at
    /// the end of the bytes.
    Broken(usize, io::Error),
}

/// A part of an archive that can be decompressed alone, and the range of its content.
struct Member {
    packed: Range<usize>,
    content: Range<usize>,
}

/// Decompresses the consecutive members at the beginning of `bytes`.
fn members(bytes: &[u8], kind: Kind, content: &mut Vec<u8>) -> Unpacked {
    let room = content.capacity();
    let mut members: Vec<Member> = Vec::new();
    let mut rest = bytes;
    loop {
        let (begin, from) = (bytes.len() - rest.len(), content.len());
        let read = Decoder::new(kind, &mut rest).and_then(|mut decoder| {
            let limit = (room - from) as u64 + 1;
            (&mut decoder).take(limit).read_to_end(content)
        });
        match read {
            Ok(_) if content.len() > room => return Unpacked::Long,
            Ok(_) => members.push(Member {
                packed: begin..bytes.len() - rest.len(),
                content: from..content.len(),
            }),
            Err(_) if rest.is_empty() => {
                return Unpacked::Broken(bytes.len(), io::ErrorKind::UnexpectedEof.into());
            }
            Err(error) if members.is_empty() => {
                return Unpacked::Broken(bytes.len() - rest.len(), error);
            }
            // Bytes that only look like another member are searched as a candidate of their own.
            Err(_) => {
                content.truncate(from);
                return Unpacked::Complete(members);
            }
        }
        if Kind::of(rest) != Some(kind) {
            return Unpacked::Complete(members);
        }
    }
}

/// Compresses the content into the members again, each at the same length. Writes nothing and returns false
/// when a member does not fit.
fn pack(bytes: &mut [u8], kind: Kind, members: &[Member], content: &[u8]) -> bool {
    let mut all = Zeroizing::new(Vec::new());
    for member in members {
        let old = &bytes[member.packed.clone()];
        match packed(old, kind, &content[member.content.clone()]) {
            Some(new) => all.extend_from_slice(&new),
            None => return false,
        }
    }
    bytes[..all.len()].copy_from_slice(&all);
    true
}

/// Compresses the content into a gzip member with the header and the exact length of `member`: a comment in
/// the header fills the rest. Returns `None` when the content does not fit.
fn packed(member: &[u8], kind: Kind, content: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if kind != Kind::Gzip {
        return None;
    }
    if holds(member, content) {
        return Some(Zeroizing::new(member.to_vec()));
    }
    if let Some(stored) = stored(member, content) {
        return Some(stored);
    }
    let mut old = flate2::bufread::GzDecoder::new(member);
    let header = old.header().cloned().or_else(|| {
        let _ = old.read(&mut [0]);
        old.header().cloned()
    })?;
    let comment = header.comment().unwrap_or_default().to_vec();
    (0..=9).rev().find_map(|level| {
        let bare = gzip(content, level, &header, &comment)?;
        let missing = member.len().checked_sub(bare.len())?;
        if missing == 0 {
            return Some(bare);
        }
        // A new comment needs a zero byte at its end.
        let more = missing - usize::from(header.comment().is_none());
        let comment = [comment.as_slice(), &vec![b' '; more]].concat();
        let comment = if comment.is_empty() {
            None
        } else {
            Some(comment)
        };
        let padded = match comment {
            Some(comment) => gzip(content, level, &header, &comment)?,
            None => gzip_with_empty_comment(&bare, &header)?,
        };
        let is_right = padded.len() == member.len() && holds(&padded, content);
        is_right.then_some(padded)
    })
}

/// Writes `content` into the blocks of a member that stores its content uncompressed (RFC 1951, section
/// 3.2.4): then only the changed bytes and the checksum differ.
fn stored(member: &[u8], content: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut new = Zeroizing::new(member.to_vec());
    let mut at = length_of_header(member)?;
    let mut rest = content;
    loop {
        let [kind, low, high, not_low, not_high] = *member[at..].first_chunk()?;
        let length = usize::from(low) | usize::from(high) << 8;
        if kind & 0b110 != 0 || low != !not_low || high != !not_high {
            return None;
        }
        at += 5;
        let (part, behind) = rest.split_at_checked(length)?;
        new.get_mut(at..at + length)?.copy_from_slice(part);
        (at, rest) = (at + length, behind);
        if kind & 1 != 0 {
            break;
        }
    }
    let mut checksum = Crc::new();
    checksum.update(content);
    new.get_mut(at..at + 4)?
        .copy_from_slice(&checksum.sum().to_le_bytes());
    holds(&new, content).then_some(new)
}

/// Returns the length of a gzip header in bytes (RFC 1952, section 2.3).
fn length_of_header(member: &[u8]) -> Option<usize> {
    let flags = *member.get(3)?;
    let mut at = 10;
    if flags & 4 != 0 {
        let [low, high] = *member.get(at..)?.first_chunk()?;
        at += 2 + (usize::from(low) | usize::from(high) << 8);
    }
    for text in [8, 16] {
        if flags & text != 0 {
            at += 1 + memchr::memchr(0, member.get(at..)?)?;
        }
    }
    Some(if flags & 2 != 0 { at + 2 } else { at })
}

fn gzip(
    content: &[u8],
    level: u32,
    header: &GzHeader,
    comment: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let mut builder = with_header(header);
    if !comment.is_empty() {
        builder = builder.comment(comment);
    }
    let mut encoder = builder.write(Vec::new(), Compression::new(level));
    encoder.write_all(content).ok()?;
    encoder.finish().ok().map(Zeroizing::new)
}

/// Begins a member with the header of another member, with its comment.
pub(in crate::scrub) fn with_header(header: &GzHeader) -> GzBuilder {
    let mut builder = GzBuilder::new()
        .mtime(header.mtime())
        .operating_system(header.operating_system());
    if let Some(name) = header.filename() {
        builder = builder.filename(name);
    }
    if let Some(extra) = header.extra() {
        builder = builder.extra(extra);
    }
    match header.comment() {
        Some(comment) => builder.comment(comment),
        None => builder,
    }
}

/// Returns the member with an empty comment, which is one byte longer.
fn gzip_with_empty_comment(bare: &[u8], header: &GzHeader) -> Option<Zeroizing<Vec<u8>>> {
    // RFC 1952, section 2.3.1: the comment follows the extra field and the name.
    const HAS_COMMENT: u8 = 0x10;
    let extra = header.extra().map_or(0, |extra| 2 + extra.len());
    let name = header.filename().map_or(0, |name| name.len() + 1);
    let at = 10 + extra + name;
    let mut member = Zeroizing::new(Vec::with_capacity(bare.len() + 1));
    member.extend_from_slice(bare.get(..at)?);
    member.push(0);
    member.extend_from_slice(bare.get(at..)?);
    *member.get_mut(3)? |= HAS_COMMENT;
    Some(member)
}

/// Returns true when the member decompresses to `content`.
fn holds(member: &[u8], content: &[u8]) -> bool {
    let mut unpacked = Zeroizing::new(Vec::new());
    let mut decoder = flate2::bufread::GzDecoder::new(member);
    let limit = content.len() as u64 + 1;
    let read = (&mut decoder).take(limit).read_to_end(&mut unpacked);
    read.is_ok() && decoder.into_inner().is_empty() && unpacked.as_slice() == content
}
