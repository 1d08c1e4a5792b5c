//! Writes over bytes of a file in their place: the one thing that a replacement of the whole file
//! cannot do, since others have the file open, and the old bytes would stay on the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Writes each stretch of `after` that differs from `before`, which has the same length, and
/// syncs the file. Whatever was appended in the meantime stays.
///
/// # Errors
/// What the system says.
pub fn changed(file: &File, before: &[u8], after: &[u8]) -> io::Result<()> {
    let mut at = 0;
    while let Some(start) = (at..after.len()).find(|at| before[*at] != after[*at]) {
        let end = (start..after.len())
            .find(|at| before[*at] == after[*at])
            .unwrap_or(after.len());
        file.write_all_at(&after[start..end], start as u64)?;
        at = end;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    #[test]
    fn only_what_differs_is_written_and_what_was_appended_stays() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one two three, and more").unwrap();
        changed(&file, b"one two three", b"ONE two THREE").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "ONE two THREE, and more");
    }
}
