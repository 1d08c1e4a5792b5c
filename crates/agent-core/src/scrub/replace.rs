//! A gzip file with another content: a new file beside the old one, with which it changes places.
//!
//! The two names are exchanged (renameat2(2), `RENAME_EXCHANGE`), and only then is looked at what came out
//! of it: where a rotation has put another file in that place in between, it is put back. The name of the
//! new file says which two files it is about, so that a later run can tell what a killed one has left.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

use flate2::{Compression, GzBuilder};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use rustix::fs::{AtFlags, RenameFlags, renameat_with, statat, unlinkat};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::archive::with_header;
use super::decoder::{Buffered, Kind, Members};
use super::file::{Orders, Place, Stamp};

/// What the name of each new file begins with.
const PREFIX: &str = ".monsys-scrub-";
/// How much is copied at once.
const CHUNK: usize = 64 << 10;

/// Bytes to be written into the content, where they are.
pub(super) struct Edit {
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
}

/// Puts a gzip file with `edits` in its content into the place of `file`.
///
/// # Errors
/// Why that is not safe, or cannot be done; nothing is changed then. [`io::ErrorKind::Interrupted`] when
/// somebody else has changed the file meanwhile.
pub(super) fn gzip(
    place: &Place<'_>,
    file: &File,
    edits: &[Edit],
    orders: &Orders<'_>,
) -> io::Result<()> {
    let old = file.metadata()?;
    if old.nlink() != 1 {
        return Err(io::Error::other("it has a second name elsewhere"));
    }
    if is_sticky(place.folder)? {
        return Err(io::Error::other("anybody may write into its folder"));
    }
    refuse_open(&old, orders.processes)?;
    // Who sweeps leaves alone what is being replaced.
    if file.try_lock().is_err() {
        return Err(io::Error::other("another process has locked it"));
    }
    let draft_name = OsString::from(format!("{PREFIX}new-{}", old.ino()));
    let mut draft = Draft::new(place.folder, draft_name)?;
    write(file, edits, &mut draft.file, orders.deadline)?;
    compare(file, edits, &mut draft.file, orders.deadline)?;
    resemble(&draft.file, file, &old)?;
    draft.file.sync_all()?;
    let new = draft.file.metadata()?.ino();
    draft.rename(&exchange_name(old.ino(), new, place.name))?;
    draft.exchange(place.name)?;
    let is_as_read = Stamp::of(&file.metadata()?) == Stamp::of(&old);
    if draft.inode()? != old.ino() || !is_as_read {
        draft.exchange(place.name)?;
        return Err(io::ErrorKind::Interrupted.into());
    }
    place.folder.sync_all()?;
    draft.remove()?;
    place.folder.sync_all()
}

/// Others may put files there, and only not take away what is not theirs: a name in there says nothing.
fn is_sticky(folder: &File) -> io::Result<bool> {
    Ok(folder.metadata()?.mode() & 0o1000 != 0)
}

/// A name that says which file is to change places with which, and under which name.
fn exchange_name(old: u64, new: u64, name: &OsStr) -> OsString {
    let mut text = OsString::from(format!("{PREFIX}{old}-{new}-"));
    text.push(name);
    text
}

/// The new file, which is removed when it is dropped.
struct Draft<'a> {
    folder: &'a File,
    name: OsString,
    file: File,
    is_removed: bool,
}

impl<'a> Draft<'a> {
    fn new(folder: &'a File, name: OsString) -> io::Result<Self> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        let place = Place {
            folder,
            name: &name,
        };
        let file = place.open(flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        // Who sweeps leaves alone what is being written.
        let _ = file.try_lock();
        Ok(Self {
            folder,
            file,
            name,
            is_removed: false,
        })
    }

    fn rename(&mut self, name: &OsStr) -> io::Result<()> {
        renameat_with(
            self.folder,
            &self.name,
            self.folder,
            name,
            RenameFlags::NOREPLACE,
        )?;
        name.clone_into(&mut self.name);
        Ok(())
    }

    fn exchange(&self, other: &OsStr) -> io::Result<()> {
        let flags = RenameFlags::EXCHANGE;
        Ok(renameat_with(
            self.folder,
            &self.name,
            self.folder,
            other,
            flags,
        )?)
    }

    fn inode(&self) -> io::Result<u64> {
        inode(self.folder, &self.name)
    }

    fn remove(&mut self) -> io::Result<()> {
        self.is_removed = true;
        Ok(unlinkat(self.folder, &self.name, AtFlags::empty())?)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // By now the name may be that of another file, which is put back by a later run.
        let is_ours = self
            .file
            .metadata()
            .is_ok_and(|ours| self.inode().is_ok_and(|there| there == ours.ino()));
        if !self.is_removed && is_ours {
            let _ = self.remove();
        }
    }
}

fn inode(folder: &File, name: &OsStr) -> io::Result<u64> {
    Ok(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_ino)
}

/// The content of `file` with the edits.
fn content<'e>(file: &File, edits: &'e [Edit]) -> io::Result<impl Read + 'e> {
    let mut input = file.try_clone()?;
    input.seek(SeekFrom::Start(0))?;
    Ok(Edited {
        input: Members::new(Kind::Gzip, Buffered::new(input)),
        edits,
        at: 0,
    })
}

struct Edited<'e, R> {
    input: R,
    edits: &'e [Edit],
    at: u64,
}

impl<R: Read> Read for Edited<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        let end = self.at + count as u64;
        for edit in self.edits.iter().take_while(|edit| edit.at < end) {
            for (byte, at) in edit.bytes.iter().zip(edit.at..) {
                if (self.at..end).contains(&at)
                    && let Ok(index) = usize::try_from(at - self.at)
                {
                    buffer[index] = *byte;
                }
            }
        }
        let at = end;
        self.edits = match self
            .edits
            .iter()
            .position(|edit| edit.at + edit.bytes.len() as u64 > at)
        {
            Some(first) => &self.edits[first..],
            None => &[],
        };
        self.at = end;
        Ok(count)
    }
}

fn write(file: &File, edits: &[Edit], draft: &mut File, deadline: Instant) -> io::Result<()> {
    let mut begin = file.try_clone()?;
    begin.seek(SeekFrom::Start(0))?;
    let mut member = flate2::read::GzDecoder::new(begin);
    let _ = member.read(&mut [0])?;
    let builder = member.header().map_or_else(GzBuilder::new, with_header);
    let mut encoder = builder.write(BufWriter::new(draft), Compression::default());
    let mut input = content(file, edits)?;
    let mut chunk = Zeroizing::new(vec![0; CHUNK]);
    loop {
        match input.read(&mut chunk)? {
            0 => return encoder.finish()?.flush(),
            count => encoder.write_all(&chunk[..count])?,
        }
        refuse_late(deadline)?;
    }
}

/// Refuses a draft that unpacks to anything else than the content with the edits.
fn compare(file: &File, edits: &[Edit], draft: &mut File, deadline: Instant) -> io::Result<()> {
    draft.seek(SeekFrom::Start(0))?;
    let mut expected = content(file, edits)?;
    let mut written = Members::new(Kind::Gzip, Buffered::new(&*draft));
    let mut chunk = Zeroizing::new(vec![0; CHUNK]);
    let mut other = Zeroizing::new(vec![0; CHUNK]);
    loop {
        let count = expected.read(&mut chunk)?;
        if count == 0 {
            return match written.read(&mut other)? {
                0 => Ok(()),
                _ => Err(io::ErrorKind::Interrupted.into()),
            };
        }
        written.read_exact(&mut other[..count])?;
        if chunk[..count] != other[..count] {
            return Err(io::ErrorKind::Interrupted.into());
        }
        refuse_late(deadline)?;
    }
}

fn refuse_late(deadline: Instant) -> io::Result<()> {
    if Instant::now() >= deadline {
        return Err(io::Error::other("there was no time left to write it anew"));
    }
    Ok(())
}

/// Gives the draft owner, mode, attributes and times of the file that it is to replace.
fn resemble(draft: &File, file: &File, old: &fs::Metadata) -> io::Result<()> {
    use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
    fchown(draft, Some(old.uid()), Some(old.gid()))?;
    draft.set_permissions(old.permissions())?;
    let mut names = vec![0_u8; CHUNK];
    let length = flistxattr(file, &mut names[..]).unwrap_or(0);
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let name = OsStr::from_bytes(name);
        let mut value = vec![0_u8; CHUNK];
        let length = fgetxattr(file, name, &mut value[..])?;
        let set = fsetxattr(draft, name, &value[..length], XattrFlags::empty());
        // Labels of the place are the kernel's to give.
        if !name.as_bytes().starts_with(b"security.") {
            set?;
        }
    }
    let times = fs::FileTimes::new().set_modified(old.modified()?);
    draft.set_times(times)
}

/// Refuses a file that another process has open: it may be writing to it.
fn refuse_open(old: &fs::Metadata, processes: &Path) -> io::Result<()> {
    let own = std::process::id().to_string();
    for process in fs::read_dir(processes)? {
        let process = process?;
        let name = process.file_name();
        let is_process = name.as_bytes().iter().all(u8::is_ascii_digit);
        if !is_process || name.to_string_lossy() == own {
            continue;
        }
        // It may have ended, or be another user's.
        for open in fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let is_it = fs::metadata(open.path())
                .is_ok_and(|there| there.ino() == old.ino() && there.dev() == old.dev());
            if is_it && !is_child(&process.path()) {
                return Err(io::Error::other(format!(
                    "process {} has it open",
                    name.to_string_lossy()
                )));
            }
        }
    }
    Ok(())
}

/// Whether a process was begun by this one. Until it executes its program, it has what is open here.
fn is_child(process: &Path) -> bool {
    let parent = || {
        let text = crate::store::safe_read::kernel(&process.join("stat")).ok()?;
        // The name of the program, in brackets, may hold anything: proc_pid_stat(5).
        text.rsplit_once(')')?
            .1
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()
    };
    parent() == Some(std::process::id())
}

/// Whether `name` is that of a file of ours, which nobody else looks for anything in.
pub(super) fn is_draft(name: &OsStr) -> bool {
    name.as_bytes().starts_with(PREFIX.as_bytes())
}

/// Ends what a killed run has begun with the draft `name` in `folder`. Returns whether that is so: another run
/// may be at it, or the file may be a stranger's.
///
/// # Errors
/// What the system says.
pub(super) fn sweep(folder: &File, name: &OsStr) -> io::Result<bool> {
    let draft = Place { folder, name };
    let file = draft.open(OFlag::O_RDONLY, Mode::empty())?;
    if !file.metadata()?.is_file() || file.try_lock().is_err() || is_sticky(folder)? {
        return Ok(false);
    }
    let inode_there = file.metadata()?.ino();
    let rest = &name.as_bytes()[PREFIX.len()..];
    if !rest.starts_with(b"new-") {
        let mut parts = rest.splitn(3, |byte| *byte == b'-');
        let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse::<u64>().ok();
        let (Some(old), Some(new)) = (number(), number()) else {
            return Ok(false);
        };
        let Some(place) = parts.next().map(|name| OsString::from_vec(name.to_vec())) else {
            return Ok(false);
        };
        // Another file was in the place of the old one when the names were exchanged.
        if inode_there != old && inode_there != new {
            if inode(folder, &place)? != new {
                return Ok(false);
            }
            renameat_with(folder, name, folder, &place, RenameFlags::EXCHANGE)?;
        }
    }
    unlinkat(folder, name, AtFlags::empty())?;
    Ok(true)
}
