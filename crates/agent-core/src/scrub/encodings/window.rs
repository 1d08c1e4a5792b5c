//! The search of a stream of any length through a window. The memory is limited, and a secret across the end
//! of one window is complete in the next window.

use std::io::{self, Read};

use super::{Obstacle, Search};

/// The largest window, in bytes. User data has 16 KiB to 1 MiB, by cloud: the window contains the longest in
/// base64.
pub(in crate::scrub) const OUTER: usize = 2 << 20;
/// The window for the content of an archive inside a document, in bytes.
pub(in crate::scrub) const INNER: usize = 512 << 10;
/// The overlap of two windows, in bytes. No encoded secret is longer.
const OVERLAP: usize = 64 << 10;
/// A part that begins before this offset and is cut off by the end of the window is too long for any window.
const LEAST_PROGRESS: usize = 4 << 10;

/// A function that is called for each changed window, with its offset, its old bytes and its new bytes.
pub(in crate::scrub) type Change<'c> = dyn FnMut(u64, &[u8], &[u8]) -> io::Result<()> + 'c;

/// Returns the window for a file of `size` bytes: a short file fits into a small window.
pub(in crate::scrub) fn for_size(size: u64) -> usize {
    let size = usize::try_from(size).unwrap_or(OUTER);
    size.saturating_add(1).clamp(2 * OVERLAP, OUTER)
}

/// Searches `input` to its end, through a window of `size` bytes. Returns the number of bytes that were read.
///
/// # Errors
/// Those of `input` and of `change`.
pub(in crate::scrub) fn stream(
    search: &mut Search<'_>,
    input: &mut dyn Read,
    depth: usize,
    size: usize,
    change: &mut Change<'_>,
) -> io::Result<u64> {
    let (Some(mut bytes), Some(mut before)) = (search.buffer(size), search.buffer(size)) else {
        search.note(Obstacle::Deep);
        return Ok(0);
    };
    let buffers = (&mut *bytes.0, &mut *before.0);
    let searched = windows(search, input, depth, change, buffers);
    search.release(bytes);
    search.release(before);
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
    // The rest of an archive that is too long may look like any text, and is not changed.
    let mut is_search_only = false;
    loop {
        let is_last = fill(input, bytes, size)?;
        before.clear();
        before.extend_from_slice(bytes);
        let mut visit = if is_uniform(bytes) {
            super::Visit::default()
        } else {
            search.visit(bytes, depth, !is_last)
        };
        if visit.cut.is_some_and(|cut| cut < LEAST_PROGRESS) {
            search.note(Obstacle::Long);
            is_search_only = true;
            visit = search.visit(bytes, depth, false);
        }
        if visit.changed && !is_search_only {
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

/// Returns true when all bytes are equal, as in a hole of a sparse file.
fn is_uniform(bytes: &[u8]) -> bool {
    bytes.len() > 1 && bytes[1..] == bytes[..bytes.len() - 1]
}

/// Fills `bytes` up to `size`. Returns true when `input` has ended.
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
