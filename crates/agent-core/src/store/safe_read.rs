//! Reading small files without being held up: a pipe in a file's place would wait for ever, and a
//! device would never end.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use zeroize::Zeroizing;

use super::{open, trust};

/// More than any file has that the agent reads whole.
pub const LIMIT: u64 = 1024 * 1024;
/// How a file is opened that must be none but itself.
const NO_LINK: OFlag = OFlag::O_NONBLOCK.union(OFlag::O_NOFOLLOW);
/// What a file of the kernel's has at most, more often than not.
const PAGE: usize = 4096;

/// The bytes of a regular file of the system's, such as os-release. Links are followed.
///
/// # Errors
/// What the system says; what is no regular file, or is larger than [`LIMIT`], is refused.
pub fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    regular(path, OFlag::O_NONBLOCK, LIMIT)
}

/// The bytes of a regular file of the agent's own, which decides what the agent does: as root, one
/// that others can write is refused.
///
/// # Errors
/// As [`bytes`]; a symbolic link is refused, and as root what [`trust::opened`] refuses.
pub fn own(path: &Path) -> io::Result<Vec<u8>> {
    let (mut file, metadata) = open_regular(path, NO_LINK)?;
    trust::opened(path, &metadata)?;
    sized(&mut file, &metadata, LIMIT)
}

/// The bytes of a regular file that others may have written, in a folder of theirs. What is in it is
/// data, and decides nothing.
///
/// # Errors
/// As [`bytes`]; a symbolic link is refused.
pub fn foreign(path: &Path) -> io::Result<Vec<u8>> {
    at_most(path, LIMIT)
}

/// As [`foreign`], of a file that may have up to `limit` bytes.
///
/// # Errors
/// As [`foreign`].
pub fn at_most(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    regular(path, NO_LINK, limit)
}

/// The text of a file below `/proc` or `/sys`. The kernel itself answers there: nothing holds up a
/// read, and the size that it tells is none, so nothing is looked at first.
///
/// # Errors
/// As [`text`].
pub fn kernel(path: &Path) -> io::Result<String> {
    let mut file = open(path, OFlag::O_RDONLY, Mode::empty())?;
    utf8(up_to(&mut file, PAGE, None, LIMIT)?)
}

/// The begin of such a file, as much of it as one read gives: all of a file below `/sys`.
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
    // A file of the kernel's tells no size.
    let room = match usize::try_from(metadata.len().min(limit)) {
        Ok(0) | Err(_) => PAGE,
        Ok(size) => size + 1,
    };
    up_to(file, room, Some(metadata.len()), limit)
}

/// Reads to the end, or to the size that the file had, first into `room` bytes: a file that fits is
/// read in one go.
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

/// The text of a file that others may have written, as [`foreign`] reads it.
///
/// # Errors
/// As [`foreign`]; what is not UTF-8 is refused.
pub fn foreign_text(path: &Path) -> io::Result<Zeroizing<String>> {
    match String::from_utf8(foreign(path)?) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(io::Error::other("it is not UTF-8"))
        }
    }
}

/// As [`text`], with what the system says of the file.
///
/// # Errors
/// As [`text`].
pub fn text_of(path: &Path) -> io::Result<(String, Metadata)> {
    let (mut file, metadata) = open_regular(path, OFlag::O_NONBLOCK)?;
    let bytes = sized(&mut file, &metadata, LIMIT)?;
    Ok((utf8(bytes)?, metadata))
}

/// The text of a regular file of the system's.
///
/// # Errors
/// As [`bytes`]; what is not UTF-8 is refused.
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
    fn what_would_hold_up_or_never_end_is_refused() {
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
