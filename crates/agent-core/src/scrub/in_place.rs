//! Overwrites bytes of a file in place. A replacement of the file would not do: other processes have the
//! file open, and the old bytes would stay on the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use zeroize::Zeroizing;

/// The distance of two changes, in bytes, below which they are one write: an archive must not be half
/// changed.
const NEAR: usize = 64;
/// The bytes of one read, to find the end of the bytes that other processes have written.
const CHUNK: usize = 4096;
/// The bytes before a write that show whether the file was truncated at the time of the write.
const CONTEXT: usize = 64;

/// Writes each stretch of `after` that differs from `before`, which has the same length and was read at
/// `base`. Immediately before each write, compares `before` with the file, at the same descriptor. Returns
/// false when another process has changed the file; the remaining stretches are then not written.
///
/// # Errors
/// The system's error.
pub(super) fn overwrite(file: &File, base: u64, before: &[u8], after: &[u8]) -> io::Result<bool> {
    let mut at = 0;
    while let Some((start, end)) = stretch(before, after, at) {
        let place = base + start as u64;
        if !is_still(file, place, &before[start..end])? {
            return Ok(false);
        }
        file.write_all_at(&after[start..end], place)?;
        let context = start.saturating_sub(CONTEXT);
        if !is_still(file, base + context as u64, &after[context..start])? {
            undo_growth(file, place, (end - start) as u64)?;
            return Ok(false);
        }
        at = end;
    }
    Ok(true)
}

/// Returns the range of the next bytes that differ, at or after `at`, joined with differences near them.
pub(super) fn stretch(before: &[u8], after: &[u8], at: usize) -> Option<(usize, usize)> {
    let differs = |at: &usize| before[*at] != after[*at];
    let start = (at..after.len()).find(differs)?;
    let mut end = start + 1;
    while let Some(next) = (end..after.len().min(end + NEAR)).find(differs) {
        end = next + 1;
    }
    Some((start, end))
}

fn is_still(file: &File, place: u64, expected: &[u8]) -> io::Result<bool> {
    let mut there = Zeroizing::new(vec![0; expected.len()]);
    match file.read_exact_at(&mut there, place) {
        Ok(()) => Ok(there.as_slice() == expected),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the bytes that this run alone has written at the end of the file. The file was truncated between
/// the comparison and the write (logrotate's copytruncate), and the write has made it longer again.
fn undo_growth(file: &File, place: u64, length: u64) -> io::Result<()> {
    if file.metadata()?.len() != place + length {
        return Ok(());
    }
    let mut end = place;
    let mut bytes = [0; CHUNK];
    while end > 0 {
        let begin = end.saturating_sub(CHUNK as u64);
        let part = &mut bytes[..usize::try_from(end - begin).unwrap_or(CHUNK)];
        file.read_exact_at(part, begin)?;
        if let Some(last) = part.iter().rposition(|byte| *byte != 0) {
            end = begin + last as u64 + 1;
            break;
        }
        end = begin;
    }
    file.set_len(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    fn file(text: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        file
    }

    #[track_caller]
    fn expect(file: &mut File, expected: &str) {
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, expected);
    }

    #[test]
    fn only_different_bytes_are_written_and_appended_bytes_stay() {
        let mut file = file(b"..one two three, and more");
        assert!(overwrite(&file, 2, b"one two three", b"ONE two THREE").unwrap());
        expect(&mut file, "..ONE two THREE, and more");
    }

    #[test]
    fn a_text_that_has_changed_is_not_overwritten() {
        for there in ["one TWO three", "one"] {
            let mut file = file(there.as_bytes());
            assert!(!overwrite(&file, 0, b"one two three", b"one xxx three").unwrap());
            expect(&mut file, there);
        }
    }

    #[test]
    fn a_truncated_file_does_not_grow() {
        let mut file = file(b"new\n\0\0\0\0\0\0\0xxx");
        undo_growth(&file, 11, 3).unwrap();
        expect(&mut file, "new\n");
    }
}
