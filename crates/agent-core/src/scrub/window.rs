//! A stream of any length, seen through a window: what is in memory is bounded, and whatever lies across the
//! end of one window is whole in the next.

use std::io::{self, Read};

use super::encodings::{Remains, Search};

/// User data has 16 KiB to 1 MiB, by cloud: base64 of the longest is seen whole.
pub(super) const OUTER: usize = 2 << 20;
/// Of what is unpacked inside of something.
pub(super) const INNER: usize = 512 << 10;
/// So much of one window is seen again in the next. No secret is longer, however it is encoded.
const OVERLAP: usize = 64 << 10;
/// What begins before this and is cut off by the window's end is too long for any window.
const LEAST_PROGRESS: usize = 4 << 10;

/// Told of each window that something was blotted out in: where it begins, what it was, and what it is.
pub(super) type Change<'c> = dyn FnMut(u64, &[u8], &[u8]) -> io::Result<()> + 'c;

/// The window for a short file: it is seen whole, and costs no megabytes.
pub(super) fn for_size(size: u64) -> usize {
    let size = usize::try_from(size).unwrap_or(OUTER);
    size.saturating_add(1).clamp(2 * OVERLAP, OUTER)
}

/// Searches all that `input` gives, through a window of `size` bytes. Returns how much that was.
///
/// # Errors
/// Those of `input` and of `change`.
pub(super) fn stream(
    search: &mut Search<'_>,
    input: &mut dyn Read,
    depth: usize,
    size: usize,
    change: &mut Change<'_>,
) -> io::Result<u64> {
    let (Some(mut bytes), Some(mut before)) = (search.buffer(size), search.buffer(size)) else {
        search.note(Remains::Deep);
        return Ok(0);
    };
    let buffers = (&mut *bytes.0, &mut *before.0);
    let searched = windows(search, input, depth, change, buffers);
    search.give_back(bytes);
    search.give_back(before);
    searched
}

fn windows(
    search: &mut Search<'_>,
    input: &mut dyn Read,
    depth: usize,
    change: &mut Change<'_>,
    (bytes, before): (&mut Vec<u8>, &mut Vec<u8>),
) -> io::Result<u64> {
    let size = bytes.capacity();
    let mut at = 0;
    // Behind an archive that was not seen whole, its bytes may look like anything.
    let mut is_for_looking_only = false;
    loop {
        let is_last = fill(input, bytes, size)?;
        before.clear();
        before.extend_from_slice(bytes);
        let mut visit = if is_uniform(bytes) {
            super::encodings::Visit::default()
        } else {
            search.visit(bytes, depth, !is_last)
        };
        if visit.cut.is_some_and(|cut| cut < LEAST_PROGRESS) {
            search.note(Remains::Long);
            is_for_looking_only = true;
            visit = search.visit(bytes, depth, false);
        }
        if visit.changed && !is_for_looking_only {
            change(at, before, bytes)?;
        }
        if is_last || search.is_late() {
            return Ok(at + bytes.len() as u64);
        }
        let next = visit.cut.unwrap_or(size).min(size - OVERLAP);
        bytes.drain(..next);
        at += next as u64;
    }
}

/// Whether one byte is all that there is, as in a hole.
fn is_uniform(bytes: &[u8]) -> bool {
    bytes.len() > 1 && bytes[1..] == bytes[..bytes.len() - 1]
}

/// Fills `bytes` up to `size`; tells whether `input` has ended.
fn fill(input: &mut dyn Read, bytes: &mut Vec<u8>, size: usize) -> io::Result<bool> {
    let mut filled = bytes.len();
    bytes.resize(size, 0);
    while filled < size {
        match input.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                bytes.truncate(filled);
                return Err(error);
            }
        }
    }
    bytes.truncate(filled);
    Ok(filled < size)
}
