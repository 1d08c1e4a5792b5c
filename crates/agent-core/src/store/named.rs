//! Reads the file that a setting names: a regular file of at most 1 MiB, or a pipe with a limit of size
//! and time. Other files are never opened, because opening a device may have an effect.

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use tokio::time::Instant;

use super::safe_read::LIMIT;
use super::{open, safe_read};

/// Bytes of one read from a pipe.
const CHUNK: usize = 16 * 1024;

/// Returns whether `path` leads to a pipe, such as a shell's `<(…)`.
#[must_use]
pub fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

/// Reads a regular file.
///
/// # Errors
/// The system's error; an error for a file that is not regular or is larger than [`LIMIT`].
pub fn regular(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_file() {
        safe_read::bytes(path)
    } else if is_pipe(path) {
        Err(io::Error::other(
            "it is a pipe; the agent reads a pipe only from a flag or a variable, and never in the service",
        ))
    } else {
        Err(io::Error::other("it is not a regular file"))
    }
}

/// Reads a pipe to its end, which has to come before `deadline`.
///
/// # Errors
/// The system's error; an error for a file that is not a pipe, or a pipe that is larger than [`LIMIT`] or
/// does not end.
pub fn pipe(path: &Path, deadline: Instant) -> io::Result<Vec<u8>> {
    // Without O_NONBLOCK, the open would wait for a writer, with no deadline.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mut file = open(path, flags, Mode::empty())?;
    if !file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::other("it is not a pipe any more"));
    }
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; CHUNK]);
    loop {
        wait_for(&file, deadline)?;
        match file.read(&mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) if is_temporary(&error) => {}
            Err(error) => return Err(error),
        }
        if bytes.len() as u64 > LIMIT {
            return Err(io::Error::other("it is larger than 1 MiB"));
        }
    }
}

/// Waits until a pipe has bytes to read, or its last writer has closed it.
fn wait_for(pipe: &impl AsFd, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, so that the wait never ends before the deadline.
        let timeout = left.as_millis().saturating_add(1);
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut pipes = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut pipes, timeout) {
            Ok(0) if left.is_zero() => {
                return Err(io::Error::other(
                    "it is a pipe that did not end before the deadline (--wait)",
                ));
            }
            Ok(0) | Err(nix::Error::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_temporary(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, WouldBlock};
    matches!(error.kind(), Interrupted | WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::Duration;

    fn fifo(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("pipe");
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        path
    }

    fn in_a_moment() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    fn in_a_minute() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    /// Starts a thread that opens the pipe and writes to it.
    fn writer(path: &Path, bytes: Vec<u8>) -> std::thread::JoinHandle<()> {
        let path = path.to_owned();
        std::thread::spawn(move || {
            let mut pipe = fs::OpenOptions::new().write(true).open(path).unwrap();
            // The reader closes its end at the limit.
            let _ = pipe.write_all(&bytes);
        })
    }

    #[test]
    fn a_pipe_is_waited_for_and_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = fifo(folder.path());
        let text = "x".repeat(3 * CHUNK);
        let writing = writer(&path, text.clone().into_bytes());
        assert_eq!(pipe(&path, in_a_minute()).unwrap(), text.as_bytes());
        writing.join().unwrap();
    }

    #[test]
    fn a_pipe_that_does_not_end_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = fifo(folder.path());
        let error = pipe(&path, in_a_moment()).unwrap_err();
        assert!(error.to_string().contains("--wait"), "{error}");
        // The writer writes some bytes and does not close the pipe.
        let mut open = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        open.write_all(b"-----BEGIN").unwrap();
        let error = pipe(&path, in_a_moment()).unwrap_err();
        assert!(error.to_string().contains("--wait"), "{error}");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "lays out a file")]
    fn a_large_file_is_refused_before_all_of_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = fifo(folder.path());
        let writing = writer(&path, vec![b'x'; 8 << 20]);
        let error = pipe(&path, in_a_minute()).unwrap_err();
        assert!(error.to_string().contains("1 MiB"), "{error}");
        writing.join().unwrap();
        let large = folder.path().join("large");
        fs::write(&large, vec![b'x'; (1 << 20) + 1]).unwrap();
        let error = regular(&large).unwrap_err();
        assert!(error.to_string().contains("1 MiB"), "{error}");
    }

    #[test]
    fn only_regular_files_are_regular() {
        let folder = tempfile::tempdir().unwrap();
        let path = fifo(folder.path());
        for path in [&path, Path::new("/dev/zero"), folder.path()] {
            assert!(regular(path).is_err(), "{}", path.display());
        }
        assert!(pipe(Path::new("/dev/zero"), in_a_minute()).is_err());
        // A file of the kernel has the size 0.
        assert!(!regular(Path::new("/proc/version")).unwrap().is_empty());
    }
}
