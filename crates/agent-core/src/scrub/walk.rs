//! The walk over all files below a folder. It follows no link, and opens each folder relative to the open
//! folder above it, so that no other process can replace a folder meanwhile.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use rustix::fs::{AtFlags, FileType, statat};

use super::file::is_draft;
use super::file::{Place, Stamp};
use crate::store::names_in;

/// The deepest folder that is searched. Each level needs a descriptor, of 1024 by default. A deeper folder
/// is reported.
const DEEPEST: usize = 512;

/// An entry that the walk has found.
pub(super) enum Found<'a> {
    /// A regular file.
    File(PathBuf, Place<'a>, Stamp),
    /// A draft: the new file of a scrub that did not end.
    Draft(PathBuf, Place<'a>),
    /// A folder or file that cannot be read.
    Unreadable(PathBuf, io::Error),
}

/// Calls `show` for each file below `folder`, for entries of `folder` whose names begin with `prefix`. A
/// missing folder has no files.
pub(super) fn walk(folder: &Path, prefix: &str, show: &mut dyn FnMut(Found<'_>)) {
    match File::open(folder) {
        Ok(open) => descend(&open, folder, prefix.as_bytes(), 0, show),
        Err(error) if is_absent(&error) => {}
        Err(error) => show(Found::Unreadable(folder.to_owned(), error)),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn descend(
    folder: &File,
    path: &Path,
    prefix: &[u8],
    depth: usize,
    show: &mut dyn FnMut(Found<'_>),
) {
    let names = match names_in(folder) {
        Ok(names) => names,
        Err(error) => return show(Found::Unreadable(path.to_owned(), error)),
    };
    for name in names
        .iter()
        .filter(|name| name.as_bytes().starts_with(prefix) || (depth == 0 && is_draft(name)))
    {
        let place = Place { folder, name };
        let path = path.join(name);
        let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(error) if is_absent(&error.into()) => continue,
            Err(error) => {
                show(Found::Unreadable(path, error.into()));
                continue;
            }
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if is_draft(name) => show(Found::Draft(path, place)),
            FileType::RegularFile => show(Found::File(path, place, Stamp::of_stat(&stat))),
            FileType::Directory if depth >= DEEPEST => {
                let error = io::Error::other(format!("more than {DEEPEST} folders deep"));
                show(Found::Unreadable(path, error));
            }
            FileType::Directory => {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
                match place.open(flags, Mode::empty()) {
                    Ok(inner) => descend(&inner, &path, b"", depth + 1, show),
                    Err(error) if is_absent(&error) => {}
                    Err(error) => show(Found::Unreadable(path, error)),
                }
            }
            _ => {}
        }
    }
}
