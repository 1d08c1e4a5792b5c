//! Archives inside of a document: what is in them is searched, and a gzip member is packed anew into the
//! very room that it had.

use std::io::{self, Read, Write};
use std::ops::Range;

use flate2::{Compression, Crc, GzBuilder, GzHeader};
use memchr::memmem;
use zeroize::Zeroizing;

pub(super) use super::decoder::Kind;
use super::decoder::{Decoder, Members};
use super::encodings::{Buffer, Remains, Search};
use super::window;

/// An archive that holds more than this is searched in a stream, and not packed anew: user data has
/// 16 KiB to 1 MiB, by cloud.
const LONGEST_CONTENT: usize = 1 << 20;

/// So much of an archive shows in nearly every case whether it is one.
const LONGEST_BEGIN: usize = 1 << 10;

/// What came of the archives in one layer.
#[derive(Default)]
pub(super) struct Archives {
    /// Where they are.
    pub(super) places: Vec<Range<usize>>,
    /// One of them was packed anew.
    pub(super) changed: bool,
    /// Where one begins that is cut off by the end of what was given.
    pub(super) cut: Option<usize>,
}

/// What is at a place that an archive may begin at.
enum There {
    Whole { length: usize, changed: bool },
    Cut,
    Nothing,
}

/// Searches each archive in `bytes`, wherever it begins.
pub(super) fn visit(
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
        match look_into(search, &mut bytes[begin..], kind, depth, is_open) {
            There::Whole { length, changed } => {
                archives.places.push(begin..begin + length);
                archives.changed |= changed;
                at = begin + length;
            }
            There::Cut => {
                archives.cut = Some(begin);
                break;
            }
            There::Nothing => at = begin + 1,
        }
    }
    archives
}

/// Whether an archive begins anywhere in `bytes`, broken or not.
pub(super) fn is_in(bytes: &[u8]) -> bool {
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

/// Where the next archive of each kind may begin; behind the end when there is none. Nothing is looked at
/// twice.
#[derive(Default)]
struct Candidates([usize; Kind::ALL.len()]);

impl Candidates {
    /// The next place at or behind `at` that looks like an archive's begin.
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

fn look_into(
    search: &mut Search<'_>,
    bytes: &mut [u8],
    kind: Kind,
    depth: usize,
    is_open: bool,
) -> There {
    if bytes.len() > LONGEST_BEGIN || !is_open {
        match begins(kind, &bytes[..bytes.len().min(LONGEST_BEGIN)]) {
            Some(true) => {}
            // Three bytes are soon there by chance.
            Some(false) if kind == Kind::Gzip => return There::Nothing,
            // A header of kilobytes, or a million things that look like one.
            _ if search.may_look_closer() => {}
            _ => return unseen(search, Remains::Crowded, bytes.len()),
        }
    }
    match search.buffer(LONGEST_CONTENT.min(1024 * bytes.len())) {
        Some(mut content) => {
            let there = unpack(search, bytes, kind, depth, is_open, &mut content);
            search.give_back(content);
            there
        }
        None => unseen(search, Remains::Memory(kind), bytes.len()),
    }
}

/// Something that may be an archive, and is not looked into: what is behind its begin may look like any text,
/// and stays as it is.
fn unseen(search: &mut Search<'_>, cause: Remains, length: usize) -> There {
    search.note(cause);
    There::Whole {
        length,
        changed: false,
    }
}

/// Whether anything can be unpacked: mostly, what looks like an archive's begin is none. `None` when more has
/// to be seen for that.
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
) -> There {
    let content = &mut *content.0;
    let found = search.found;
    let below = depth.saturating_sub(1);
    if !search.take(kind.memory()) {
        return unseen(search, Remains::Memory(kind), bytes.len());
    }
    let unpacked = members(bytes, kind, content);
    search.give(kind.memory());
    let length = match unpacked {
        Unpacked::Whole(members) => {
            let length = members.last().map_or(0, |member| member.packed.end);
            if search.visit(content, below, false).changed && pack(bytes, kind, &members, content) {
                let changed = true;
                return There::Whole { length, changed };
            }
            length
        }
        // What is longer is searched in a stream, and cannot be packed anew.
        Unpacked::Long => {
            if !search.take(kind.memory()) {
                return unseen(search, Remains::Memory(kind), bytes.len());
            }
            let mut rest: &[u8] = bytes;
            let mut all = Members::embedded(kind, &mut rest);
            let mut forget = |_: u64, _: &[u8], _: &[u8]| Ok(());
            let ended = window::stream(search, &mut all, below, window::INNER, &mut forget);
            drop(all);
            search.give(kind.memory());
            if ended.is_err() && is_open && rest.is_empty() {
                return There::Cut;
            }
            bytes.len() - rest.len()
        }
        Unpacked::Broken(_, error) if error.kind() == io::ErrorKind::OutOfMemory => {
            return unseen(search, Remains::Memory(kind), bytes.len());
        }
        Unpacked::Broken(_, error) if is_open && error.kind() == io::ErrorKind::UnexpectedEof => {
            return There::Cut;
        }
        // What could be read of it is searched, and nothing of it is changed.
        Unpacked::Broken(length, _) => {
            search.visit(content, below, false);
            if search.found > found {
                return unseen(search, Remains::Broken(kind), length);
            }
            // It may show its content as it is, and be whole when it is looked at in another way.
            let is_suspect = kind != Kind::Gzip || !content.is_empty();
            if is_suspect && search.wanted.blot_out(&mut Zeroizing::new(bytes.to_vec())) > 0 {
                search.found += 1;
                return unseen(search, Remains::Broken(kind), bytes.len());
            }
            return There::Nothing;
        }
    };
    if search.found > found {
        search.note(match kind {
            Kind::Gzip => Remains::Packed(kind),
            _ => Remains::Archive(kind),
        });
    }
    There::Whole {
        length,
        changed: false,
    }
}

/// What came of unpacking.
enum Unpacked {
    Whole(Vec<Member>),
    /// There is more than is held of it.
    Long,
    /// How much could be read; [`io::ErrorKind::UnexpectedEof`] when it broke off at the end of what was given.
    Broken(usize, io::Error),
}

/// A part of an archive that can be unpacked by itself, and where its content is in that of the whole.
struct Member {
    packed: Range<usize>,
    content: Range<usize>,
}

/// Unpacks the members at the begin of `bytes`, one behind the other.
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
            // What only looks like one more is looked at by itself.
            Err(_) => {
                content.truncate(from);
                return Unpacked::Whole(members);
            }
        }
        if Kind::of(rest) != Some(kind) {
            return Unpacked::Whole(members);
        }
    }
}

/// Packs the content anew into the members, each into the very room that it had. Where one does not fit,
/// nothing is written, and the answer is no.
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

/// The content as a gzip member of exactly the length of the one that it had, whose header it keeps: a
/// comment in the header makes up for what is missing. `None` when it does not fit.
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
        // The zero byte at a comment's end is the first that a new one takes.
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

/// The member with `content` in the very blocks that it had, where each of them stores its content as it is
/// (RFC 1951, section 3.2.4): then only the changed bytes and the checksum are others.
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

/// RFC 1952, section 2.3.
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

/// Begins a member with the header of another one, its comment included.
pub(super) fn with_header(header: &GzHeader) -> GzBuilder {
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

/// The member with a comment of no character: one byte more.
fn gzip_with_empty_comment(bare: &[u8], header: &GzHeader) -> Option<Zeroizing<Vec<u8>>> {
    // RFC 1952, section 2.3.1: the comment stands behind the extra field and the name.
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

/// Whether the member unpacks to `content`.
fn holds(member: &[u8], content: &[u8]) -> bool {
    let mut unpacked = Zeroizing::new(Vec::new());
    let mut decoder = flate2::bufread::GzDecoder::new(member);
    let limit = content.len() as u64 + 1;
    let read = (&mut decoder).take(limit).read_to_end(&mut unpacked);
    read.is_ok() && decoder.into_inner().is_empty() && unpacked.as_slice() == content
}
