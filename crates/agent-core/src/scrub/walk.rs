//! All files below a folder, at any depth: no link is followed, and each folder is opened in the one above
//! it, so that nobody can put another one into its place meanwhile.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use rustix::fs::{AtFlags, FileType, statat};

use super::file::{Place, Stamp};
use super::replace::is_draft;
use crate::store::names_in;

/// Each folder above holds a descriptor, and there are 1024 by default. What is deeper is named.
const DEEPEST: usize = 512;

/// What was found.
pub(super) enum Found<'a> {
    /// A regular file.
    File(PathBuf, Place<'a>, Stamp),
    /// A file that a scrub has begun to write.
    Draft(PathBuf, Place<'a>),
    /// A folder, or a file, that cannot be looked at.
    Unreadable(PathBuf, io::Error),
}

/// Shows each file below `folder` whose first name below it begins with `prefix`. A folder that is not there
/// has none.
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
        let there = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => there,
            Err(error) if is_absent(&error.into()) => continue,
            Err(error) => {
                show(Found::Unreadable(path, error.into()));
                continue;
            }
        };
        match FileType::from_raw_mode(there.st_mode) {
            FileType::RegularFile if is_draft(name) => show(Found::Draft(path, place)),
            FileType::RegularFile => show(Found::File(path, place, Stamp::of_stat(&there))),
            FileType::Directory if depth >= DEEPEST => {
                let error = io::Error::other(format!("it is more than {DEEPEST} folders deep"));
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
