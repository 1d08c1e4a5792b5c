//! The scrub of one file: searches and changes it at one descriptor.

mod replace;

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use tokio::time::Instant;

use super::decoder::{Buffered, Kind, Members};
use super::encodings::window;
use super::encodings::{DEEPEST, Obstacle, Search};
use super::in_place::{overwrite, stretch};
use super::matcher::SecretMatcher;
use crate::store::open_in;
use replace::Edit;
pub(super) use replace::{is_draft, sweep};

/// The number of attempts for a file that other processes change meanwhile.
const ATTEMPTS: usize = 4;
/// The memory limit for the changes in an archive, in bytes.
const MOST_EDITS: usize = 1 << 20;

/// The result for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file does not contain the secret.
    Clean,
    /// The secret was removed from the file.
    Scrubbed,
    /// The file contains the secret, and the run only searches.
    Holding,
    /// The file may still contain the secret, for this reason.
    Left(String),
    /// The file was removed, or is not a regular file.
    Gone,
}

/// The identity and state of a file. A file that was searched in this state is not searched again.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// The time of the last change of the content, in seconds and nanoseconds since 1970.
    changed_at: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed_at: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    pub(super) fn of_stat(stat: &rustix::fs::Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            changed_at: (
                stat.st_mtime,
                i64::try_from(stat.st_mtime_nsec).unwrap_or_default(),
            ),
        }
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }
}

/// A file, by its name in an open folder, so that no folder above it is looked up again.
pub(super) struct Place<'a> {
    pub(super) folder: &'a File,
    pub(super) name: &'a OsStr,
}

impl Place<'_> {
    pub(super) fn open(&self, flags: OFlag, mode: Mode) -> io::Result<File> {
        let careful = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        open_in(self.folder, self.name, flags | careful, mode)
    }
}

/// The options of a run.
pub(super) struct Options<'a> {
    pub(super) matcher: &'a SecretMatcher,
    pub(super) deadline: Instant,
    /// The run changes no file.
    pub(super) is_search_only: bool,
    /// The folder with the processes (`/proc`).
    pub(super) processes: &'a Path,
}

/// Scrubs one file; returns the result, and the state of the file after the scrub.
pub(super) fn scrub(place: &Place<'_>, options: &Options<'_>) -> (Outcome, Option<Stamp>) {
    match attempt(place, options) {
        Ok(ended) => ended,
        Err(error) if is_gone(&error) => (Outcome::Gone, None),
        Err(error) => (
            Outcome::Left(format!("could not be searched: {error}")),
            None,
        ),
    }
}

/// Returns true for an error of a removed file, or of a name that is now a symbolic link or a socket.
fn is_gone(error: &io::Error) -> bool {
    let codes = [nix::libc::ENOENT, nix::libc::ELOOP, nix::libc::ENXIO];
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

/// Opens a file for reading and writing, or only for reading with the error of the other.
fn open(place: &Place<'_>, options: &Options<'_>) -> io::Result<(File, Option<io::Error>)> {
    let read = || place.open(OFlag::O_RDONLY, Mode::empty());
    if options.is_search_only {
        return Ok((read()?, None));
    }
    match place.open(OFlag::O_RDWR, Mode::empty()) {
        Ok(file) => Ok((file, None)),
        Err(error) if is_gone(&error) => Err(error),
        Err(error) => Ok((read()?, Some(error))),
    }
}

fn attempt(place: &Place<'_>, options: &Options<'_>) -> io::Result<(Outcome, Option<Stamp>)> {
    let (file, read_only) = open(place, options)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut has_changed = false;
    for _ in 0..ATTEMPTS {
        let before = Stamp::of(&file.metadata()?);
        let mut pass = Pass {
            place,
            options,
            file: &file,
            read_only: read_only.as_ref(),
            search: Search::new(options.matcher, options.deadline),
            unwritable: None,
            result: PassResult::Unchanged,
        };
        let length = pass.run()?;
        let after = file.metadata()?;
        let is_shorter = after.len() < length.min(before.size);
        has_changed |= pass.result != PassResult::Unchanged;
        match pass.result {
            // The new file was compared with this one.
            PassResult::Replaced => return Ok((pass.outcome(true), None)),
            PassResult::Unchanged if !is_shorter => {
                return Ok((pass.outcome(has_changed), Some(Stamp::of(&after))));
            }
            // A changed file is read again, to prove that it is clean.
            PassResult::Unchanged | PassResult::Changed | PassResult::Unsteady => {}
        }
    }
    Ok((Outcome::Left(Obstacle::Unsteady.to_string()), None))
}

/// The result of one pass over the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PassResult {
    Unchanged,
    Changed,
    /// A new file is in the place of the file.
    Replaced,
    /// Another process has changed the file meanwhile.
    Unsteady,
}

/// One pass over the file.
struct Pass<'a> {
    place: &'a Place<'a>,
    options: &'a Options<'a>,
    file: &'a File,
    read_only: Option<&'a io::Error>,
    search: Search<'a>,
    /// The reason why a match could not be masked.
    unwritable: Option<String>,
    result: PassResult,
}

impl Pass<'_> {
    /// Searches the file; returns the number of bytes that were read.
    fn run(&mut self) -> io::Result<u64> {
        let mut begin = [0; 16];
        let count = self.file.read_at(&mut begin, 0)?;
        let length = match Kind::of(&begin[..count]) {
            Some(kind) => match self.archive(kind)? {
                Some(length) => length,
                None => self.document()?,
            },
            None => self.document()?,
        };
        if self.result == PassResult::Changed {
            self.file.sync_all()?;
        }
        Ok(length)
    }

    /// Searches a file that is not an archive.
    fn document(&mut self) -> io::Result<u64> {
        let mut input = self.file;
        input.seek(SeekFrom::Start(0))?;
        let size = self.file.metadata()?.len();
        let (file, options) = (self.file, self.options);
        let (read_only, unwritable) = (self.read_only, &mut self.unwritable);
        let result = &mut self.result;
        let mut change = |base: u64, before: &[u8], after: &[u8]| {
            if options.is_search_only {
                return Ok(());
            }
            if let Some(error) = read_only {
                *unwritable = Some(error.to_string());
                return Ok(());
            }
            match overwrite(file, base, before, after) {
                Ok(true) if *result == PassResult::Unchanged => *result = PassResult::Changed,
                Ok(true) => {}
                Ok(false) => *result = PassResult::Unsteady,
                Err(error) => *unwritable = Some(error.to_string()),
            }
            Ok(())
        };
        window::stream(
            &mut self.search,
            &mut input,
            DEEPEST,
            window::for_size(size),
            &mut change,
        )
    }

    /// Searches a file that begins like an archive. Returns `None` when it is not an archive.
    fn archive(&mut self, kind: Kind) -> io::Result<Option<u64>> {
        let size = self.file.metadata()?.len();
        let mut input = self.file;
        input.seek(SeekFrom::Start(0))?;
        if !self.search.reserve(kind.memory()) {
            self.search.note(Obstacle::Memory(kind));
            return Ok(Some(size));
        }
        let mut edits = Edits::default();
        let mut members = Members::new(kind, Buffered::new(input));
        let mut change = |base: u64, before: &[u8], after: &[u8]| {
            edits.add(base, before, after);
            Ok(())
        };
        let depth = DEEPEST - 1;
        let searched = window::stream(
            &mut self.search,
            &mut members,
            depth,
            // Text compresses to about a tenth.
            window::for_size(size.saturating_mul(10)),
            &mut change,
        );
        let has_begun = members.has_content();
        drop(members);
        self.search.release_bytes(kind.memory());
        match searched {
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                self.search.note(Obstacle::Memory(kind));
            }
            // The three bytes of gzip's magic number also occur by chance.
            Err(_) if !has_begun && kind == Kind::Gzip => return Ok(None),
            Err(_) => self.search.note(Obstacle::Broken(kind)),
            Ok(_) if edits.are_too_many => self.search.note(Obstacle::Many),
            Ok(_) if edits.list.is_empty() || self.options.is_search_only => {}
            Ok(_) if kind != Kind::Gzip => self.search.note(Obstacle::Archive(kind)),
            Ok(_) => self.replace(&edits.list)?,
        }
        Ok(Some(size))
    }

    /// Replaces the archive with a new file, or else compresses its content again at the same length.
    fn replace(&mut self, edits: &[Edit]) -> io::Result<()> {
        match replace::gzip(self.place, self.file, edits, self.options) {
            Ok(()) => self.result = PassResult::Replaced,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.result = PassResult::Unsteady;
            }
            Err(error) => {
                self.document()?;
                if !self.search.obstacles.is_empty() {
                    self.unwritable = Some(error.to_string());
                }
            }
        }
        Ok(())
    }

    fn outcome(&self, has_changed: bool) -> Outcome {
        let mut cause = String::new();
        let unwritable = self.unwritable.iter();
        let reasons =
            unwritable.map(|error| format!("contains the token, and cannot be changed: {error}"));
        let obstacles = self.search.obstacles.iter().map(ToString::to_string);
        for reason in reasons.chain(obstacles) {
            let semicolon = if cause.is_empty() { "" } else { "; " };
            let _ = write!(cause, "{semicolon}{reason}");
        }
        if self.options.is_search_only && self.search.found > 0 {
            Outcome::Holding
        } else if !cause.is_empty() {
            Outcome::Left(cause)
        } else if has_changed {
            Outcome::Scrubbed
        } else {
            Outcome::Clean
        }
    }
}

/// The changes in the content of an archive.
#[derive(Default)]
struct Edits {
    list: Vec<Edit>,
    size: usize,
    are_too_many: bool,
}

impl Edits {
    fn add(&mut self, base: u64, before: &[u8], after: &[u8]) {
        let mut at = 0;
        while let Some((start, end)) = stretch(before, after, at) {
            self.size += end - start + size_of::<Edit>();
            if self.size > MOST_EDITS {
                self.are_too_many = true;
                return;
            }
            self.list.push(Edit {
                at: base + start as u64,
                bytes: after[start..end].to_vec(),
            });
            at = end;
        }
    }
}

/// Scrubs only the file `path`.
#[must_use]
pub fn file(path: &Path, matcher: &SecretMatcher) -> Outcome {
    let options = Options {
        matcher,
        deadline: Instant::now() + super::PATIENCE,
        is_search_only: false,
        processes: Path::new("/proc"),
    };
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let name: OsString = path.file_name().unwrap_or_default().to_owned();
    match File::open(folder) {
        Ok(folder) => {
            let place = Place {
                folder: &folder,
                name: &name,
            };
            scrub(&place, &options).0
        }
        Err(error) if is_gone(&error) => Outcome::Gone,
        Err(error) => Outcome::Left(error.to_string()),
    }
}
