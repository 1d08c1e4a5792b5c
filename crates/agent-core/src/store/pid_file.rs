//! A lock by a file with the id of the process that holds it, for file systems without flock(2). `PostgreSQL` locks its
//! data directory like that (`postmaster.pid`).
//!
//! The kernel does not remove the file of a killed process. So a file counts only while its process lives: the id, and
//! the start time of the process, because ids are used again.
//!
//! In a folder that another user can write, that user can make the file, with the id of any process. Root does not
//! wait for that: it removes a file that is not root's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::atomic::{self, Grant};
use super::ownership::Owner;
use super::safe_read;

/// The end of the file's name, after the name of the lock.
pub(super) const SUFFIX: &str = ".pid";

/// The file of this process. Dropping it removes it.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    note: String,
}

impl PidFile {
    /// Makes the file beside `lock`. Returns `None` while another process holds it.
    ///
    /// # Errors
    /// The system's error.
    pub(super) fn take(lock: &Path) -> io::Result<Option<Self>> {
        let path = path(lock);
        let note = note(std::process::id());
        match read(&path) {
            Ok(held) if is_alive(&held) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Of a file that it cannot read, only root knows that it counts for nothing.
            Err(_) if !Owner::ours().is_root() => return Ok(None),
            held => remove_stale(&path, held.ok().as_deref())?,
        }
        let grant = Grant {
            owner: Owner::ours(),
            mode: 0o600,
        };
        let file = atomic::temporary(atomic::folder_of(&path), note.as_bytes(), grant)?;
        match file.persist_noclobber(&path) {
            Ok(_) => Ok(Some(Self { path, note })),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error.error),
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if read(&self.path).is_ok_and(|note| note == self.note) {
            let _ = atomic::remove(&self.path);
        }
    }
}

/// Returns the process that holds the lock, for a message.
pub(super) fn holder(lock: &Path) -> Option<u32> {
    read(&path(lock)).ok()?.split(' ').next()?.parse().ok()
}

fn path(lock: &Path) -> PathBuf {
    let mut path = lock.as_os_str().to_owned();
    path.push(SUFFIX);
    path.into()
}

/// Reads the file of a process. For root, a file that another user can write is an error.
fn read(path: &Path) -> io::Result<String> {
    String::from_utf8(safe_read::own(path)?).map_err(io::Error::other)
}

/// Returns the content of the file of a process: its id, and the start time (proc(5), field 22 of `stat`), or 0 where
/// /proc is not mounted.
fn note(pid: u32) -> String {
    format!("{pid} {}\n", start_time(pid).unwrap_or_default())
}

fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program may contain blanks and parentheses.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn is_alive(held: &str) -> bool {
    let Some(pid) = held.split(' ').next().and_then(|pid| pid.parse().ok()) else {
        return false;
    };
    let Ok(raw) = i32::try_from(pid) else {
        return false;
    };
    kill(Pid::from_raw(raw), None) != Err(Errno::ESRCH) && held == note(pid)
}

/// Removes the file of a dead process, or of another user, unless another process has just replaced it by its own.
fn remove_stale(path: &Path, stale: Option<&str>) -> io::Result<()> {
    let aside = atomic::aside(path);
    match atomic::rename(path, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    if read(&aside).is_ok_and(|now| stale != Some(&now)) {
        return atomic::rename(&aside, path);
    }
    atomic::remove(&aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_file_of_a_living_process_counts() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock");
        let held = PidFile::take(&lock).unwrap().unwrap();
        assert_eq!(holder(&lock), Some(std::process::id()));
        assert!(PidFile::take(&lock).unwrap().is_none());
        drop(held);
        assert_eq!(holder(&lock), None);

        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let own_start = start_time(std::process::id()).unwrap();
        for stale in [
            format!("{} 1\n", child.id()),
            format!("{} {}\n", std::process::id(), own_start + 1),
            "no process\n".to_owned(),
            String::new(),
        ] {
            let owner = Owner::ours();
            atomic::write(&path(&lock), stale.as_bytes(), 0o600, owner).unwrap();
            let taken = PidFile::take(&lock).unwrap();
            assert!(taken.is_some(), "{stale:?}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
