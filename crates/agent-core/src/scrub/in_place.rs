//! Writes over bytes of a file in their place: the one thing that a replacement of the whole file
//! cannot do, since others have the file open, and the old bytes would stay on the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use zeroize::Zeroizing;

/// Changes that are nearer to each other are one write: an archive is not changed by halves.
const NEAR: usize = 64;
/// So much is read at once, to find the end of what others have written.
const CHUNK: usize = 4096;
/// So much before a write shows whether the file was cut short in the moment of the write.
const CONTEXT: usize = 64;

/// Writes each stretch of `after` that differs from `before`, which has the same length and was read at
/// `base`. Each is compared with what is there now, at the same descriptor, just before it is written.
/// Returns false when the file was changed by somebody else in between; what differs then stays.
///
/// # Errors
/// What the system says.
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
            take_back_growth(file, place, (end - start) as u64)?;
            return Ok(false);
        }
        at = end;
    }
    Ok(true)
}

/// The next bytes that differ, at or behind `at`, with what is near to them.
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

/// The file was cut short between the comparison and the write (logrotate's copytruncate), and the write has
/// made it longer again: what nobody but this run has written goes, if it is at the end.
fn take_back_growth(file: &File, place: u64, length: u64) -> io::Result<()> {
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
    fn only_what_differs_is_written_and_what_was_appended_stays() {
        let mut file = file(b"..one two three, and more");
        assert!(overwrite(&file, 2, b"one two three", b"ONE two THREE").unwrap());
        expect(&mut file, "..ONE two THREE, and more");
    }

    #[test]
    fn what_is_another_text_by_now_is_not_touched() {
        for there in ["one TWO three", "one"] {
            let mut file = file(there.as_bytes());
            assert!(!overwrite(&file, 0, b"one two three", b"one xxx three").unwrap());
            expect(&mut file, there);
        }
    }

    #[test]
    fn a_file_that_was_cut_short_does_not_grow() {
        let mut file = file(b"new\n\0\0\0\0\0\0\0xxx");
        take_back_growth(&file, 11, 3).unwrap();
        expect(&mut file, "new\n");
    }
}
