//! One file: searched at one descriptor, changed at the same, and told of by name.

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
use super::encodings::{DEEPEST, Remains, Search};
use super::in_place::{overwrite, stretch};
use super::replace::{self, Edit};
use super::wanted::Wanted;
use super::window;
use crate::store::open_in;

/// So often a file is begun anew that others change while it is read.
const ATTEMPTS: usize = 4;
/// What is to be changed in an archive is kept in mind up to this.
const MOST_EDITS: usize = 1 << 20;

/// What came of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// What was wanted is not in it.
    Clean,
    /// It was in it, and is not any more.
    Scrubbed,
    /// It is in it: nothing was to be changed.
    Holding,
    /// It may still be in it, and why.
    Left(String),
    /// It is no regular file, or was removed.
    Gone,
}

/// Which file it is, and in which state: what was searched in this state need not be searched again.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Of the last change of its content, in seconds and nanoseconds since 1970.
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

/// A file, by its name in an open folder: no folder above it is looked up again.
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

/// How a run goes about it.
pub(super) struct Orders<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) deadline: Instant,
    /// Nothing is to be changed.
    pub(super) is_for_looking_only: bool,
    /// Where the kernel shows the processes.
    pub(super) processes: &'a Path,
}

/// Scrubs one file; returns what came of it, and the state that it has been left in.
pub(super) fn scrub(place: &Place<'_>, orders: &Orders<'_>) -> (Fate, Option<Stamp>) {
    match attempt(place, orders) {
        Ok(ended) => ended,
        Err(error) if is_gone(&error) => (Fate::Gone, None),
        Err(error) => (
            Fate::Left(format!("it could not be searched: {error}")),
            None,
        ),
    }
}

/// A log may be rotated, a lock file may vanish, a name may become that of a link.
fn is_gone(error: &io::Error) -> bool {
    let codes = [nix::libc::ENOENT, nix::libc::ELOOP, nix::libc::ENXIO];
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

/// Opens it for writing too, where that can be had.
fn open(place: &Place<'_>, orders: &Orders<'_>) -> io::Result<(File, Option<io::Error>)> {
    let read = || place.open(OFlag::O_RDONLY, Mode::empty());
    if orders.is_for_looking_only {
        return Ok((read()?, None));
    }
    match place.open(OFlag::O_RDWR, Mode::empty()) {
        Ok(file) => Ok((file, None)),
        Err(error) if is_gone(&error) => Err(error),
        Err(error) => Ok((read()?, Some(error))),
    }
}

fn attempt(place: &Place<'_>, orders: &Orders<'_>) -> io::Result<(Fate, Option<Stamp>)> {
    let (file, read_only) = open(place, orders)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut has_changed = false;
    for _ in 0..ATTEMPTS {
        let before = Stamp::of(&file.metadata()?);
        let mut pass = Pass {
            place,
            orders,
            file: &file,
            read_only: read_only.as_ref(),
            search: Search::new(orders.wanted, orders.deadline),
            unwritable: None,
            outcome: Outcome::Unchanged,
        };
        let length = pass.run()?;
        let after = file.metadata()?;
        let is_shorter = after.len() < length.min(before.size);
        has_changed |= pass.outcome != Outcome::Unchanged;
        match pass.outcome {
            // The new file was compared with this one.
            Outcome::Replaced => return Ok((pass.fate(true), None)),
            Outcome::Unchanged if !is_shorter => {
                return Ok((pass.fate(has_changed), Some(Stamp::of(&after))));
            }
            // It is not clean before it was read again.
            Outcome::Unchanged | Outcome::Changed | Outcome::Unsteady => {}
        }
    }
    Ok((Fate::Left(Remains::Unsteady.to_string()), None))
}

/// What one way through the file has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Unchanged,
    Changed,
    /// Another file is in its place.
    Replaced,
    /// Others have changed it meanwhile.
    Unsteady,
}

/// One way through the file.
struct Pass<'a> {
    place: &'a Place<'a>,
    orders: &'a Orders<'a>,
    file: &'a File,
    read_only: Option<&'a io::Error>,
    search: Search<'a>,
    /// Why what was found could not be written.
    unwritable: Option<String>,
    outcome: Outcome,
}

impl Pass<'_> {
    /// Returns how much was read.
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
        if self.outcome == Outcome::Changed {
            self.file.sync_all()?;
        }
        Ok(length)
    }

    /// What is no archive as a whole.
    fn document(&mut self) -> io::Result<u64> {
        let mut input = self.file;
        input.seek(SeekFrom::Start(0))?;
        let size = self.file.metadata()?.len();
        let (file, orders) = (self.file, self.orders);
        let (read_only, unwritable) = (self.read_only, &mut self.unwritable);
        let outcome = &mut self.outcome;
        let mut change = |base: u64, before: &[u8], after: &[u8]| {
            if orders.is_for_looking_only {
                return Ok(());
            }
            if let Some(error) = read_only {
                *unwritable = Some(error.to_string());
                return Ok(());
            }
            match overwrite(file, base, before, after) {
                Ok(true) if *outcome == Outcome::Unchanged => *outcome = Outcome::Changed,
                Ok(true) => {}
                Ok(false) => *outcome = Outcome::Unsteady,
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

    /// What is one archive. `None` when it is none, whatever it begins with.
    fn archive(&mut self, kind: Kind) -> io::Result<Option<u64>> {
        let size = self.file.metadata()?.len();
        let mut input = self.file;
        input.seek(SeekFrom::Start(0))?;
        if !self.search.take(kind.memory()) {
            self.search.note(Remains::Memory(kind));
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
            // Text packs to a tenth.
            window::for_size(size.saturating_mul(10)),
            &mut change,
        );
        let has_begun = members.has_given();
        drop(members);
        self.search.give(kind.memory());
        match searched {
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                self.search.note(Remains::Memory(kind));
            }
            // Three bytes are soon there by chance.
            Err(_) if !has_begun && kind == Kind::Gzip => return Ok(None),
            Err(_) => self.search.note(Remains::Broken(kind)),
            Ok(_) if edits.are_too_many => self.search.note(Remains::Many),
            Ok(_) if edits.list.is_empty() || self.orders.is_for_looking_only => {}
            Ok(_) if kind != Kind::Gzip => self.search.note(Remains::Archive(kind)),
            Ok(_) => self.replace(&edits.list)?,
        }
        Ok(Some(size))
    }

    /// Puts another file into the place of this one, or packs what is in it into the room that it has.
    fn replace(&mut self, edits: &[Edit]) -> io::Result<()> {
        match replace::gzip(self.place, self.file, edits, self.orders) {
            Ok(()) => self.outcome = Outcome::Replaced,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.outcome = Outcome::Unsteady;
            }
            Err(error) => {
                self.document()?;
                if !self.search.remains.is_empty() {
                    self.unwritable = Some(error.to_string());
                }
            }
        }
        Ok(())
    }

    fn fate(&self, has_changed: bool) -> Fate {
        let mut cause = String::new();
        let unwritable = self.unwritable.iter();
        let reasons =
            unwritable.map(|error| format!("it holds the token, and cannot be changed: {error}"));
        let remains = self.search.remains.iter().map(ToString::to_string);
        for reason in reasons.chain(remains) {
            let semicolon = if cause.is_empty() { "" } else { "; " };
            let _ = write!(cause, "{semicolon}{reason}");
        }
        if self.orders.is_for_looking_only && self.search.found > 0 {
            Fate::Holding
        } else if !cause.is_empty() {
            Fate::Left(cause)
        } else if has_changed {
            Fate::Scrubbed
        } else {
            Fate::Clean
        }
    }
}

/// What is to be changed in an archive's content.
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

/// Scrubs the file `path` by itself.
#[must_use]
pub fn file(path: &Path, wanted: &Wanted) -> Fate {
    let orders = Orders {
        wanted,
        deadline: Instant::now() + super::PATIENCE,
        is_for_looking_only: false,
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
            scrub(&place, &orders).0
        }
        Err(error) if is_gone(&error) => Fate::Gone,
        Err(error) => Fate::Left(error.to_string()),
    }
}
