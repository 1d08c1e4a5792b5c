//! Replaces a gzip file with a new file of changed content.
//!
//! The two names are exchanged (renameat2(2), `RENAME_EXCHANGE`), and then the result is checked: if a
//! rotation has put another file in that place meanwhile, the names are exchanged again. The name of the new
//! file contains the inodes of both files, so that a later run can complete the work of a killed run.

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

use super::{Options, Place, Stamp};
use crate::scrub::decoder::{Buffered, Kind, Members};
use crate::scrub::encodings::archive::with_header;

/// The prefix of the names of new files.
const PREFIX: &str = ".monsys-scrub-";
/// The bytes that are copied at once.
const CHUNK: usize = 64 << 10;

/// Bytes to write into the content, with their offset.
pub(in crate::scrub) struct Edit {
    pub(in crate::scrub) at: u64,
    pub(in crate::scrub) bytes: Vec<u8>,
}

/// Replaces `file` with a gzip file with `edits` in its content.
///
/// # Errors
/// The reason why the replacement is not safe or not possible; nothing is then changed.
/// [`io::ErrorKind::Interrupted`] when another process has changed the file meanwhile.
pub(in crate::scrub) fn gzip(
    place: &Place<'_>,
    file: &File,
    edits: &[Edit],
    options: &Options<'_>,
) -> io::Result<()> {
    let old = file.metadata()?;
    if old.nlink() != 1 {
        return Err(io::Error::other("the file has another hard link"));
    }
    if is_sticky(place.folder)? {
        return Err(io::Error::other("every user may write in its folder"));
    }
    refuse_open(&old, options.processes)?;
    // A sweep of another run skips a locked file.
    if file.try_lock().is_err() {
        return Err(io::Error::other("another process has locked the file"));
    }
    let draft_name = OsString::from(format!("{PREFIX}new-{}", old.ino()));
    let mut draft = Draft::new(place.folder, draft_name)?;
    write(file, edits, &mut draft.file, options.deadline)?;
    compare(file, edits, &mut draft.file, options.deadline)?;
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

/// Returns true for a folder in which other users may make files, so that a name proves nothing.
fn is_sticky(folder: &File) -> io::Result<bool> {
    Ok(folder.metadata()?.mode() & 0o1000 != 0)
}

/// Returns the name of a draft that is to be exchanged: it contains both inodes and the name of the old file.
fn exchange_name(old: u64, new: u64, name: &OsStr) -> OsString {
    let mut text = OsString::from(format!("{PREFIX}{old}-{new}-"));
    text.push(name);
    text
}

/// The new file, which is removed when dropped.
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
        // A sweep of another run skips a locked file.
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
        // The name may now belong to another file, which a later run restores.
        let is_ours = self
            .file
            .metadata()
            .is_ok_and(|ours| self.inode().is_ok_and(|inode| inode == ours.ino()));
        if !self.is_removed && is_ours {
            let _ = self.remove();
        }
    }
}

fn inode(folder: &File, name: &OsStr) -> io::Result<u64> {
    Ok(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_ino)
}

/// Returns the content of `file` with the edits.
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

/// Refuses a draft whose content is not the content of `file` with the edits.
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
        return Err(io::Error::other(
            "the time limit was reached during the write",
        ));
    }
    Ok(())
}

/// Gives the draft the owner, mode, attributes and times of the old file.
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
        // The kernel sets the security labels of a place.
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
        // The process may have ended, or belong to another user.
        for open in fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let is_it = fs::metadata(open.path())
                .is_ok_and(|open| open.ino() == old.ino() && open.dev() == old.dev());
            if is_it && !is_child(&process.path()) {
                return Err(io::Error::other(format!(
                    "process {} has the file open",
                    name.to_string_lossy()
                )));
            }
        }
    }
    Ok(())
}

/// Returns true for a child of this process. Until a child executes its program, it shares the open files.
fn is_child(process: &Path) -> bool {
    let parent = || {
        let text = crate::store::safe_read::kernel(&process.join("stat")).ok()?;
        // The name of the program, in brackets, may contain any character: proc_pid_stat(5).
        text.rsplit_once(')')?
            .1
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()
    };
    parent() == Some(std::process::id())
}

/// Returns true for the name of a draft.
pub(in crate::scrub) fn is_draft(name: &OsStr) -> bool {
    name.as_bytes().starts_with(PREFIX.as_bytes())
}

/// Completes the work of a killed run with the draft `name` in `folder`. Returns false when another run may
/// be writing the draft, or when the draft may belong to another program.
///
/// # Errors
/// The system's error.
pub(in crate::scrub) fn sweep(folder: &File, name: &OsStr) -> io::Result<bool> {
    let draft = Place { folder, name };
    let file = draft.open(OFlag::O_RDONLY, Mode::empty())?;
    if !file.metadata()?.is_file() || file.try_lock().is_err() || is_sticky(folder)? {
        return Ok(false);
    }
    let draft_inode = file.metadata()?.ino();
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
        if draft_inode != old && draft_inode != new {
            if inode(folder, &place)? != new {
                return Ok(false);
            }
            renameat_with(folder, name, folder, &place, RenameFlags::EXCHANGE)?;
        }
    }
    unlinkat(folder, name, AtFlags::empty())?;
    Ok(true)
}
