//! Reading small files without being held up: a pipe in a file's place would wait for ever, and a
//! device would never end.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

/// More than any file has that the agent reads whole.
pub const LIMIT: u64 = 1024 * 1024;

/// The bytes of a regular file of the system's, such as os-release. Links are followed.
///
/// # Errors
/// What the system says; what is no regular file, or is larger than [`LIMIT`], is refused.
pub fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    regular(path, nix::libc::O_NONBLOCK, LIMIT)
}

/// The bytes of a regular file of the agent's own. Its directory may belong to the service's user,
/// and root follows no link of theirs.
///
/// # Errors
/// As [`bytes`]; a symbolic link is refused.
pub fn own(path: &Path) -> io::Result<Vec<u8>> {
    at_most(path, LIMIT)
}

/// As [`own`], of a file that may have up to `limit` bytes.
///
/// # Errors
/// As [`own`].
pub fn at_most(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    regular(path, nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW, limit)
}

fn regular(path: &Path, flags: i32, limit: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let mib = limit >> 20;
        return Err(io::Error::other(format!("it is larger than {mib} MiB")));
    }
    Ok(bytes)
}

/// The text of one of our own files, as [`own`] reads it.
///
/// # Errors
/// As [`own`]; what is not UTF-8 is refused.
pub fn own_text(path: &Path) -> io::Result<Zeroizing<String>> {
    match String::from_utf8(own(path)?) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(io::Error::other("it is not UTF-8"))
        }
    }
}

/// The text of a regular file of the system's.
///
/// # Errors
/// As [`bytes`]; what is not UTF-8 is refused.
pub fn text(path: &Path) -> io::Result<String> {
    String::from_utf8(bytes(path)?).map_err(|_| io::Error::other("it is not UTF-8"))
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
