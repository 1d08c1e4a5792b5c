//! The file of revocations: append-only, one line for each entry, synced before it counts.

use super::entry::{self, Entry, Parsed};
use crate::clock::Millis;
use crate::error::Error;
use crate::receipt_key::{ReceiptKeys, folder_of};
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The completeness of the revocations that the hub knows: whether they are all that there ever were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completeness {
    Complete,
    /// An earlier file may have been lost, or none is given.
    Lost,
    /// An earlier file may have been lost, and the operator has accepted that.
    Accepted,
}

impl Completeness {
    /// Returns the word on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Lost => "lost",
            Self::Accepted => "accepted",
        }
    }
}

/// The open file. It is locked against other hubs as long as it is open.
pub(crate) struct RevocationFile {
    keys: Arc<ReceiptKeys>,
    end: Mutex<End>,
}

struct End {
    file: File,
    length: u64,
    last_line: Option<String>,
    completeness: Completeness,
    /// True when a write has failed so that the file's content is unknown until it is read again.
    is_unknown: bool,
}

/// An opened file, and what it says.
pub(crate) struct Opened {
    pub(crate) file: RevocationFile,
    /// Entries and their times, in order.
    pub(crate) entries: Vec<(Entry, Millis)>,
    /// True when the file was created, or was empty.
    pub(crate) is_new: bool,
}

impl RevocationFile {
    /// Opens and verifies the file. If it does not exist, it is created; it is complete then if no
    /// receipt key has existed before.
    pub(crate) fn open(path: &Path, keys: Arc<ReceiptKeys>, now: Millis) -> Result<Opened, Error> {
        let failed = |cause: &dyn fmt::Display| {
            let hint = "give --revocations a file that this user may read and write, on a disk with \
                        room";
            Error::new(what(path), cause, hint)
        };
        let mut file = open_and_lock(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|cause| failed(&cause))?;
        let complete = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |last| last + 1);
        let length = u64::try_from(complete).unwrap_or(u64::MAX);
        if complete < bytes.len() {
            // The entry was never confirmed to anybody.
            tracing::warn!(file = %path.display(), bytes = bytes.len() - complete,
                "the last line is incomplete, as after a crash: it is cut off");
            file.set_len(length)
                .and_then(|()| file.sync_all())
                .map_err(|cause| failed(&cause))?;
            bytes.truncate(complete);
        }
        let (entries, last_line) = read(&bytes, &keys).map_err(|cause| damaged(path, &cause))?;
        let is_new = entries.is_empty();
        let opened = Self {
            end: Mutex::new(End {
                file,
                length,
                last_line,
                completeness: completeness(&entries),
                is_unknown: false,
            }),
            keys,
        };
        if is_new {
            let complete = opened.keys.is_new;
            opened
                .append(&[Entry::Begin { complete }], now)
                .and_then(|()| File::open(folder_of(path))?.sync_all())
                .map_err(|cause| failed(&cause))?;
        }
        Ok(Opened {
            file: opened,
            entries,
            is_new,
        })
    }

    /// Returns whether the entries of this file are all that there ever were.
    pub(crate) fn completeness(&self) -> Completeness {
        self.end().completeness
    }

    /// Appends entries. They are on disk once this returns.
    pub(crate) fn append(&self, entries: &[Entry], now: Millis) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut end = self.end();
        if end.is_unknown {
            let cause = "an earlier write of the file of revocations failed; start the hub again";
            return Err(io::Error::other(cause));
        }
        let mut lines = Vec::new();
        let mut last_line = end.last_line.clone();
        for entry in entries {
            let line = entry::write(entry, now, last_line.take(), &self.keys)?;
            last_line = Some(entry::hash(&line));
            lines.extend(line);
            lines.push(b'\n');
        }
        let length = end.length;
        let written = end
            .file
            .write_all(&lines)
            .and_then(|()| end.file.sync_data());
        if let Err(cause) = written {
            // Nothing may follow a part of a line. After a failed sync, nobody knows what is on disk.
            let undone = end.file.set_len(length).and_then(|()| end.file.sync_all());
            end.is_unknown = undone.is_err() || cause.kind() != io::ErrorKind::StorageFull;
            return Err(cause);
        }
        end.length += u64::try_from(lines.len()).unwrap_or_default();
        end.last_line = last_line;
        for entry in entries {
            end.completeness = after(end.completeness, entry);
        }
        Ok(())
    }

    fn end(&self) -> std::sync::MutexGuard<'_, End> {
        // A panic leaves `is_unknown` as it was, and the length that was written: both are right.
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn what(path: &Path) -> String {
    format!("opening the file of revocations {}", path.display())
}

fn damaged(path: &Path, cause: &str) -> Error {
    Error::new(
        what(path),
        cause,
        "give every key that has signed the file by --receipt-key, or restore the file from its \
         newest copy. If there is none, move the file away: the hub begins a new one, and readmits \
         agents only once the operator accepts what is lost",
    )
}

/// Opens the file for appending, and takes flock(2) on it: two writers would break the chain.
fn open_and_lock(path: &Path) -> Result<File, Error> {
    let hint = "give --revocations a file that this user may read and write";
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(|cause| Error::new(what(path), cause, hint))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(cause)) => Err(Error::new(what(path), cause, hint)),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            what(path),
            "another hub has it open",
            "stop the other hub, or give --revocations another file",
        )),
    }
}

/// The entries and their times, and the hash of the last line.
type Content = (Vec<(Entry, Millis)>, Option<String>);

/// Verifies and parses complete lines. The error is a cause for the operator.
fn read(bytes: &[u8], keys: &ReceiptKeys) -> Result<Content, String> {
    let mut entries = Vec::new();
    let mut last_line = None;
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let number = index + 1;
        let Parsed { entry, at, prev } =
            entry::parse(line, keys).map_err(|cause| format!("line {number}: {cause}"))?;
        if prev != last_line {
            return Err(format!(
                "line {number} does not follow the line before: lines are missing or in another order"
            ));
        }
        if matches!(entry, Entry::Begin { .. }) != entries.is_empty() {
            return Err(format!("line {number} is not in the right place"));
        }
        last_line = Some(entry::hash(line));
        entries.push((entry, at));
    }
    Ok((entries, last_line))
}

fn completeness(entries: &[(Entry, Millis)]) -> Completeness {
    let start = Completeness::Lost;
    entries
        .iter()
        .fold(start, |state, (entry, _)| after(state, entry))
}

fn after(state: Completeness, entry: &Entry) -> Completeness {
    match (entry, state) {
        (Entry::Begin { complete: true }, _) => Completeness::Complete,
        (Entry::LostAccepted, Completeness::Lost) => Completeness::Accepted,
        _ => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;
    use tempfile::TempDir;
    use uuid::Uuid;

    struct Fixture {
        dir: TempDir,
    }

    fn keys(seeds: &[[u8; 32]]) -> Arc<ReceiptKeys> {
        Arc::new(ReceiptKeys::from_seeds(seeds).unwrap())
    }

    fn revoked(n: u128) -> Entry {
        let token_id = Uuid::from_u128(n);
        Entry::TokenRevoked { token_id }
    }

    impl Fixture {
        /// Makes a file with these many entries beside the first.
        fn new(entries: u128) -> Self {
            let fixture = Self {
                dir: tempfile::tempdir().unwrap(),
            };
            let opened = fixture.open(&[[1; 32]]).unwrap();
            assert!(opened.is_new);
            assert_eq!(opened.file.completeness(), Completeness::Complete);
            for n in 0..entries {
                opened.file.append(&[revoked(n)], 1).unwrap();
            }
            fixture
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("revocations")
        }

        fn open(&self, seeds: &[[u8; 32]]) -> Result<Opened, Error> {
            RevocationFile::open(&self.path(), keys(seeds), 0)
        }

        fn cause(&self) -> String {
            let Err(cause) = self.open(&[[1; 32]]) else {
                panic!("it opens")
            };
            cause.to_string()
        }

        fn lines(&self) -> Vec<String> {
            let text = fs::read_to_string(self.path()).unwrap();
            text.lines().map(|line| format!("{line}\n")).collect()
        }
    }

    #[test]
    fn entries_are_there_again_also_under_a_new_key() {
        let fixture = Fixture::new(2);
        let opened = fixture.open(&[[2; 32], [1; 32]]).unwrap();
        assert!(!opened.is_new);
        let entries: Vec<Entry> = opened.entries.into_iter().map(|(entry, _)| entry).collect();
        assert_eq!(
            entries,
            [Entry::Begin { complete: true }, revoked(0), revoked(1)]
        );
        opened.file.append(&[revoked(2), revoked(3)], 2).unwrap();
        drop(opened.file);
        assert_eq!(fixture.open(&[[2; 32], [1; 32]]).unwrap().entries.len(), 5);
        assert!(fixture.cause().contains("line 4: no receipt key"));
    }

    #[test]
    fn each_torn_last_line_is_cut_off() {
        let fixture = Fixture::new(2);
        let complete = fs::read(fixture.path()).unwrap();
        let kept: usize = fixture.lines()[..2].iter().map(String::len).sum();
        for length in kept..complete.len() {
            fs::write(fixture.path(), &complete[..length]).unwrap();
            let opened = fixture.open(&[[1; 32]]).unwrap();
            assert_eq!(opened.entries.len(), 2, "{length}");
            opened.file.append(&[revoked(9)], 1).unwrap();
            drop(opened);
            assert_eq!(fixture.open(&[[1; 32]]).unwrap().entries.len(), 3);
        }
    }

    #[test]
    fn a_first_line_that_is_torn_makes_a_new_file() {
        let fixture = Fixture::new(0);
        fs::write(fixture.path(), "{\"kind\":\"beg").unwrap();
        assert!(fixture.open(&[[1; 32]]).unwrap().is_new);
        assert!(!fixture.open(&[[1; 32]]).unwrap().is_new);
    }

    #[test]
    fn a_file_that_was_changed_is_refused() {
        let fixture = Fixture::new(3);
        let lines = fixture.lines();
        let write = |picked: &[usize]| {
            let text: String = picked.iter().map(|n| lines[*n].as_str()).collect();
            fs::write(fixture.path(), text).unwrap();
        };
        for (picked, cause) in [
            (&[0, 2, 3][..], "line 2 does not follow"),
            (&[1, 2, 3], "line 1 does not follow"),
            (&[0, 2, 1, 3], "line 2 does not follow"),
            (&[0, 1, 1, 2], "line 3 does not follow"),
        ] {
            write(picked);
            let seen = fixture.cause();
            assert!(seen.contains(cause), "{seen}");
            assert!(seen.contains("hint:  give every key"), "{seen}");
        }
        write(&[0, 1, 2, 3]);
        let text = fs::read_to_string(fixture.path()).unwrap();
        fs::write(
            fixture.path(),
            text.replacen("token_revoked", "token_revoket", 1),
        )
        .unwrap();
        assert!(fixture.cause().contains("line 2: no receipt key"));
        fs::write(fixture.path(), text.replacen('\n', "\n\n", 1)).unwrap();
        assert!(fixture.cause().contains("line 2: it has no signature"));
        fs::write(fixture.path(), &text).unwrap();
        fixture.open(&[[1; 32]]).unwrap();
    }

    #[test]
    fn a_loss_is_remembered_until_it_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revocations");
        let mut known = ReceiptKeys::from_seeds(&[[1; 32]]).unwrap();
        known.is_new = false;
        let known = Arc::new(known);
        let open = || {
            RevocationFile::open(&path, Arc::clone(&known), 0)
                .unwrap()
                .file
        };
        assert_eq!(open().completeness(), Completeness::Lost);
        let file = open();
        assert_eq!(file.completeness(), Completeness::Lost);
        file.append(&[Entry::LostAccepted], 1).unwrap();
        assert_eq!(file.completeness(), Completeness::Accepted);
        drop(file);
        assert_eq!(open().completeness(), Completeness::Accepted);
    }

    #[test]
    fn a_second_hub_is_refused() {
        let fixture = Fixture::new(0);
        let first = fixture.open(&[[1; 32]]).unwrap();
        assert!(fixture.cause().contains("another hub has it open"));
        drop(first);
        fixture.open(&[[1; 32]]).unwrap();
    }
}
