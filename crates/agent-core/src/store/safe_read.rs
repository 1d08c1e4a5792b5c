//! Bounded reads of small files: a pipe in the place of a file could block forever, and a device could
//! never end.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use zeroize::Zeroizing;

use super::{open, trust};

/// The largest file that the agent reads into memory, in bytes.
pub const LIMIT: u64 = 1024 * 1024;
/// Flags for a file that must not be a symbolic link or a pipe.
const NO_LINK: OFlag = OFlag::O_NONBLOCK.union(OFlag::O_NOFOLLOW);
/// The usual largest size of a file below `/proc` or `/sys`, in bytes.
const PAGE: usize = 4096;

/// Reads a regular file of the system, such as os-release. Follows symbolic links.
///
/// # Errors
/// The system's error; an error for a file that is not regular or is larger than [`LIMIT`].
pub fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    regular(path, OFlag::O_NONBLOCK, LIMIT)
}

/// Reads a regular file of the system of up to `limit` bytes, as [`bytes`] does.
///
/// # Errors
/// As [`bytes`].
pub fn large(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    regular(path, OFlag::O_NONBLOCK, limit)
}

/// Reads a regular file of the agent that decides what the agent does. Root refuses a file that others
/// can write.
///
/// # Errors
/// As [`bytes`]; an error for a symbolic link, and for a file that [`trust::opened`] refuses.
pub fn own(path: &Path) -> io::Result<Vec<u8>> {
    let (mut file, metadata) = open_regular(path, NO_LINK)?;
    trust::opened(path, &metadata)?;
    sized(&mut file, &metadata, LIMIT)
}

/// Reads a regular file that others may have written, in a folder of theirs. The file is only data: no
/// decision of the agent depends on it.
///
/// # Errors
/// As [`bytes`]; an error for a symbolic link.
pub fn foreign(path: &Path) -> io::Result<Vec<u8>> {
    at_most(path, LIMIT)
}

/// Reads a file of up to `limit` bytes, as [`foreign`] does.
///
/// # Errors
/// As [`foreign`].
pub fn at_most(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    regular(path, NO_LINK, limit)
}

/// Reads the text of a file below `/proc` or `/sys`. The kernel answers such a read at once and reports
/// the size 0, so no check comes first.
///
/// # Errors
/// As [`text`].
pub fn kernel(path: &Path) -> io::Result<String> {
    let mut file = open(path, OFlag::O_RDONLY, Mode::empty())?;
    utf8(up_to(&mut file, PAGE, None, LIMIT)?)
}

/// Reads the beginning of a file below `/proc` or `/sys` with one read, which returns all of a file
/// below `/sys`.
///
/// # Errors
/// As [`text`].
pub fn kernel_begin(path: &Path) -> io::Result<String> {
    let mut file = open(path, OFlag::O_RDONLY, Mode::empty())?;
    let mut bytes = vec![0; PAGE];
    let count = file.read(&mut bytes)?;
    bytes.truncate(count);
    utf8(bytes)
}

fn regular(path: &Path, flags: OFlag, limit: u64) -> io::Result<Vec<u8>> {
    let (mut file, metadata) = open_regular(path, flags)?;
    sized(&mut file, &metadata, limit)
}

fn open_regular(path: &Path, flags: OFlag) -> io::Result<(File, Metadata)> {
    let file = open(path, OFlag::O_RDONLY | flags, Mode::empty())?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok((file, metadata))
}

fn sized(file: &mut File, metadata: &Metadata, limit: u64) -> io::Result<Vec<u8>> {
    // The kernel reports the size 0 for its files.
    let room = match usize::try_from(metadata.len().min(limit)) {
        Ok(0) | Err(_) => PAGE,
        Ok(size) => size + 1,
    };
    up_to(file, room, Some(metadata.len()), limit)
}

/// Reads to the end, or to the size that the file had. The buffer begins with `room` bytes, so that a
/// file of that size takes one read.
fn up_to(file: &mut File, room: usize, size: Option<u64>, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; room];
    let mut filled = 0;
    loop {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if filled as u64 > limit {
            let mib = limit >> 20;
            return Err(io::Error::other(format!("it is larger than {mib} MiB")));
        }
        if size == Some(filled as u64) {
            break;
        }
        if filled == bytes.len() {
            bytes.resize(filled * 2, 0);
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Reads the text of a file that others may have written, as [`foreign`] does.
///
/// # Errors
/// As [`foreign`]; an error for a file that is not UTF-8.
pub fn foreign_text(path: &Path) -> io::Result<Zeroizing<String>> {
    match String::from_utf8(foreign(path)?) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(io::Error::other("it is not UTF-8"))
        }
    }
}

/// Reads a text and the metadata of its file, as [`text`] does.
///
/// # Errors
/// As [`text`].
pub fn text_of(path: &Path) -> io::Result<(String, Metadata)> {
    let (mut file, metadata) = open_regular(path, OFlag::O_NONBLOCK)?;
    let bytes = sized(&mut file, &metadata, LIMIT)?;
    Ok((utf8(bytes)?, metadata))
}

/// Reads the text of a regular file of the system.
///
/// # Errors
/// As [`bytes`]; an error for a file that is not UTF-8.
pub fn text(path: &Path) -> io::Result<String> {
    utf8(bytes(path)?)
}

fn utf8(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_could_block_or_never_end_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap();
        assert!(made.success());
        for path in [&pipe, Path::new("/dev/zero"), folder.path()] {
            assert!(bytes(path).is_err(), "{path:?}");
        }
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/proc/version", &link).unwrap();
        assert!(bytes(&link).is_ok());
        assert!(own(&link).is_err());
        assert!(!text(Path::new("/proc/version")).unwrap().is_empty());
    }
}
