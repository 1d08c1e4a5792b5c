//! Reads what a setting names: a regular file of at most 1 MiB, or a pipe that is bounded in size and
//! time. Nothing else is opened: opening a device alone may have an effect.

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

/// How much is read from a pipe at once.
const CHUNK: usize = 16 * 1024;

/// Returns whether `path` leads to a pipe, such as a shell's `<(…)`.
#[must_use]
pub fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

/// Reads a regular file.
///
/// # Errors
/// What the system says; what is not a regular file, or is larger than [`LIMIT`], is refused.
pub fn regular(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_file() {
        safe_read::bytes(path)
    } else if is_pipe(path) {
        Err(io::Error::other(
            "it is a pipe, which is read only where a flag or a variable names it, and never by the service",
        ))
    } else {
        Err(io::Error::other("it is not a regular file"))
    }
}

/// Reads a pipe to its end, which has to come before `deadline`.
///
/// # Errors
/// What the system says; what is not a pipe, is larger than [`LIMIT`] or does not end is refused.
pub fn pipe(path: &Path, deadline: Instant) -> io::Result<Vec<u8>> {
    // A pipe that nobody writes to yet is waited for below, and not here.
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
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        if bytes.len() as u64 > LIMIT {
            return Err(io::Error::other("it is larger than 1 MiB"));
        }
    }
}

/// Waits until a pipe has something to read, or its last writer is gone.
fn wait_for(pipe: &impl AsFd, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up: the time is over when the deadline has passed, and not before.
        let patience = left.as_millis().saturating_add(1);
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let mut pipes = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut pipes, patience) {
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

fn is_passing(error: &io::Error) -> bool {
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

    /// Writes in a thread, which opens the pipe when it likes.
    fn writer(path: &Path, bytes: Vec<u8>) -> std::thread::JoinHandle<()> {
        let path = path.to_owned();
        std::thread::spawn(move || {
            let mut pipe = fs::OpenOptions::new().write(true).open(path).unwrap();
            // A reader that has had enough closes its end.
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
    fn a_pipe_that_does_not_end_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = fifo(folder.path());
        let error = pipe(&path, in_a_moment()).unwrap_err();
        assert!(error.to_string().contains("--wait"), "{error}");
        // One whose writer writes a little and does not close it.
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
    fn what_is_too_large_is_refused_without_reading_all_of_it() {
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
        // A file of the kernel's has no size.
        assert!(!regular(Path::new("/proc/version")).unwrap().is_empty());
    }
}
