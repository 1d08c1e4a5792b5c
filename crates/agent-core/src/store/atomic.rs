//! The only writer of files. A write is atomic, and durable when it returns.
//!
//! The steps of each write: a temporary file in the same directory with its final mode and owner, a
//! write, an fsync, a rename, and an fsync of the directory. Files of one directory that are written
//! together share the last fsync.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use rustix::io::Errno;
use tempfile::{NamedTempFile, TempPath};

use super::obstacle::Obstacle;
pub use super::ownership::Grant;
pub use super::ownership::Owner;
use super::{names, open};

/// Beginning and end of the name of a temporary file. The next run removes the file of a killed run.
const TEMPORARY: (&str, &str) = (".monsys-", ".tmp");

/// A file to write.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// The path of the file.
    pub path: &'a Path,
    /// The content of the file.
    pub bytes: &'a [u8],
    /// The owner and permission bits of the file.
    pub grant: Grant,
}

/// Replaces `path` with a file of these bytes, mode and owner.
///
/// # Errors
/// The system's error; `path` is then unchanged.
pub fn write(path: &Path, bytes: &[u8], mode: u32, owner: Owner) -> io::Result<()> {
    let grant = Grant { owner, mode };
    write_all(&[Draft { path, bytes, grant }])
}

/// Replaces files of one folder in order, each as [`write()`] does. The bytes of all files are on the
/// disk before the first rename, and all renames are when this returns.
///
/// # Errors
/// The system's error; the first files may then be replaced, and the others are unchanged.
pub fn write_all(drafts: &[Draft<'_>]) -> io::Result<()> {
    let Some(first) = drafts.first() else {
        return Ok(());
    };
    let folder = folder_of(first.path);
    let written = drafts
        .iter()
        .map(|draft| temporary(folder, draft.bytes, draft.grant))
        .collect::<io::Result<Vec<_>>>()?;
    for (draft, file) in drafts.iter().zip(written) {
        file.persist(draft.path).map_err(|error| error.error)?;
    }
    sync_folder(folder)
}

/// Replaces `path` with a file of these bytes and this mode, owned by the user of this process, without an
/// fsync: for data that is written often and may be lost. After a crash, the path is the old file, the
/// new file, or an empty file.
///
/// # Errors
/// The system's error.
#[expect(clippy::disallowed_methods, reason = "this is the writer")]
pub fn write_lazily(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // The name is always the same, so that killed runs leave at most one file.
    let temporary = folder_of(path).join(format!("{}{name}{}", TEMPORARY.0, TEMPORARY.1));
    // Another user may have made a symbolic link here, which root must not follow.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    file.write_all(bytes)?;
    // The umask of the service may have removed bits.
    if file.metadata()?.mode() & 0o7777 != mode {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    fs::rename(&temporary, path)
}

/// Proves that `folder` accepts a durable write of `room` bytes: does all steps of [`write()`], and
/// removes the file again.
///
/// # Errors
/// The system's error.
pub fn prove(folder: &Path, room: usize, owner: Owner) -> io::Result<()> {
    let mode = 0o600;
    let proof = temporary(folder, &vec![b'#'; room], Grant { owner, mode })?;
    prove_rename(folder, proof)
}

/// Proves the last steps of a write in `folder`, with a temporary file there: the rename, and the fsync of
/// the folder. Removes the file.
pub(super) fn prove_rename(folder: &Path, proof: NamedTempFile) -> io::Result<()> {
    // The rename replaces a file that a killed run may have left.
    let renamed = folder.join(format!("{}proof{}", TEMPORARY.0, TEMPORARY.1));
    proof.persist(&renamed).map_err(|error| error.error)?;
    let renamed = TempPath::try_from_path(renamed)?;
    sync_folder(folder)?;
    renamed.close()
}

/// Removes the files that killed runs left in `folder`. The caller holds the lock.
///
/// # Errors
/// The system's error.
pub fn sweep(folder: &Path) -> io::Result<()> {
    for name in names(folder)? {
        if is_temporary(&name.to_string_lossy()) {
            match remove(&folder.join(name)) {
                // The agent makes no folder of such a name.
                Err(error) if error.kind() == io::ErrorKind::IsADirectory => {}
                removed => removed?,
            }
        }
    }
    Ok(())
}

/// Returns true for the name of a temporary file, which a killed run left.
#[must_use]
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1)
}

/// Renames a file within its directory, durably.
///
/// # Errors
/// The system's error.
#[expect(clippy::disallowed_methods, reason = "this is the writer")]
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(folder_of(to))
}

/// Removes a file, durably. Accepts a missing file.
///
/// # Errors
/// The system's error.
#[expect(clippy::disallowed_methods, reason = "this is the writer")]
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(folder_of(path)),
    }
}

/// Sets owner and permission bits of `path`, a folder or a file without another hard link. Only root can
/// change the owner; see [`Owner::own`].
///
/// # Errors
/// The system's error; an error for a symbolic link, and for a file with another hard link, which a user
/// with write permission in the folder could have made.
pub fn set_access(path: &Path, grant: Grant) -> io::Result<()> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.nlink() > 1 {
        return Err(io::Error::other("the file has another hard link"));
    }
    // A change of the owner clears bits (chown(2)), so the mode comes last.
    grant.owner.own(&file).map_err(Obstacle::owner)?;
    file.set_permissions(Permissions::from_mode(grant.mode))
        .map_err(|error| Obstacle::mode(grant.mode, error))
}

/// Removes the access control lists of `folder` (acl(5)): its own list, and the default list for new
/// files. The lists stay when the owner changes, and would let other users read new files.
///
/// # Errors
/// The system's error. A file system without such lists is accepted.
pub fn remove_lists(folder: &Path) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let folder = open(folder, flags, Mode::empty())?;
    for list in ["system.posix_acl_default", "system.posix_acl_access"] {
        match rustix::fs::fremovexattr(&folder, list) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sets owner and permission bits as [`set_access`] does, if they differ.
///
/// # Errors
/// As [`set_access`].
pub fn share(path: &Path, grant: Grant) -> io::Result<()> {
    if is_as(&fs::symlink_metadata(path)?, grant) {
        return Ok(());
    }
    set_access(path, grant)
}

/// Returns true when `path` has this owner and these permission bits.
#[must_use]
pub fn has_access(path: &Path, grant: Grant) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| is_as(&metadata, grant))
}

fn is_as(metadata: &fs::Metadata, grant: Grant) -> bool {
    let owner = Owner::new(metadata.uid(), metadata.gid());
    (owner, metadata.mode() & 0o7777) == (grant.owner, grant.mode)
}

/// Makes a hard link, durably.
///
/// # Errors
/// The system's error.
pub fn second_name(path: &Path, name: &Path) -> io::Result<()> {
    fs::hard_link(path, name)?;
    sync_folder(folder_of(name))
}

/// Makes a symbolic link, durably.
///
/// # Errors
/// The system's error.
pub fn link(path: &Path, target: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)?;
    sync_folder(folder_of(path))
}

/// Removes an empty folder, durably. Accepts a missing folder.
///
/// # Errors
/// The system's error.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(folder_of(folder)),
    }
}

/// Returns the path of the hard link that keeps a file while it is replaced. [`sweep`] removes the link
/// of a killed run.
#[must_use]
pub fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    folder_of(path).join(format!("{}before-{name}{}", TEMPORARY.0, TEMPORARY.1))
}

/// Makes `folder` with this grant, and missing parents with 0755. An existing folder is not changed,
/// except an empty folder of root that others may write to, such as the mount point of a container's
/// volume: it gets this grant.
///
/// # Errors
/// The system's error, with the path that failed.
pub fn make_folder(folder: &Path, grant: Grant) -> Result<(), (PathBuf, io::Error)> {
    let parent = folder_of(folder);
    let failed = |error| (folder.into(), error);
    let create = || DirBuilder::new().mode(grant.mode).create(folder);
    let mut created = create();
    if created
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    {
        let mode = 0o755;
        make_folder(parent, Grant { mode, ..grant })?;
        created = create();
    }
    match created {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return match fs::metadata(folder) {
                Ok(metadata) if metadata.is_dir() && !is_open_mount(folder, &metadata) => Ok(()),
                Ok(metadata) if metadata.is_dir() => set_access(folder, grant).map_err(failed),
                Ok(_) => Err(failed(io::Error::new(
                    io::ErrorKind::NotADirectory,
                    "it is not a directory",
                ))),
                Err(error) => Err(failed(error)),
            };
        }
        Err(error) => return Err(failed(error)),
    }
    // The mode of `create` is cut by the umask.
    set_access(folder, grant)
        .and_then(|()| sync_folder(parent))
        .map_err(failed)
}

/// Returns true when root runs this, and `folder` belongs to root, is empty, and others may write to it.
fn is_open_mount(folder: &Path, metadata: &fs::Metadata) -> bool {
    Owner::ours().is_root()
        && metadata.uid() == 0
        && metadata.mode() & 0o002 != 0
        && names(folder).is_ok_and(|names| names.is_empty())
}

/// Makes a temporary file with these bytes, which are on the disk when this returns.
pub(super) fn temporary(folder: &Path, bytes: &[u8], grant: Grant) -> io::Result<NamedTempFile> {
    let file = unsynced(folder, bytes, grant)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Makes a temporary file with these bytes, without an fsync.
pub(super) fn unsynced(folder: &Path, bytes: &[u8], grant: Grant) -> io::Result<NamedTempFile> {
    let Grant { owner, mode } = grant;
    let create = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY.0)
        .suffix(TEMPORARY.1)
        .make_in(folder, |path| {
            open(path, create, Mode::S_IRUSR | Mode::S_IWUSR)
        })?;
    let metadata = file.as_file().metadata()?;
    let owned = owner.own_as(file.as_file(), &metadata);
    owned.map_err(Obstacle::owner)?;
    // The mode of the open is cut by the umask.
    if metadata.mode() & 0o7777 != mode {
        let permissions = Permissions::from_mode(mode);
        let set = file.as_file().set_permissions(permissions);
        set.map_err(|error| Obstacle::mode(mode, error))?;
    }
    file.write_all(bytes)?;
    Ok(file)
}

/// Returns the folder of a path.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Writes the names in a folder to the disk. Passes over a file system that has no fsync(2) for folders, as
/// `PostgreSQL` does (`fsync_fname_ext`), and warns once in a run.
fn sync_folder(folder: &Path) -> io::Result<()> {
    use nix::libc::{EBADF, EINVAL};
    static WARNED: Once = Once::new();
    let opened = open(folder, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
    match opened.sync_all() {
        Err(error) if matches!(error.raw_os_error(), Some(EBADF | EINVAL)) => {
            WARNED.call_once(|| {
                tracing::warn!(
                    "{}: the file system has no fsync for folders: {error}; a power failure can undo the last change",
                    folder.display()
                );
            });
            Ok(())
        }
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_files_atomically_with_their_mode_and_leaves_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let owner = Owner::of(folder.path()).unwrap();
        write(&path, b"one", 0o644, owner).unwrap();
        write(&path, b"two", 0o600, owner).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        prove(folder.path(), 10_000, owner).unwrap();
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn files_of_one_write_are_replaced_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner::of(folder.path()).unwrap();
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        let drafts = |bytes| {
            paths.each_ref().map(|path| Draft {
                path,
                bytes,
                grant: Grant { owner, mode: 0o640 },
            })
        };
        write_all(&[]).unwrap();
        write_all(&drafts(b"one")).unwrap();
        for path in &paths {
            assert_eq!(fs::read(path).unwrap(), b"one");
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o640);
        }
        // A folder is in the place of the second file, so its rename fails; the first has its new bytes.
        remove(&paths[1]).unwrap();
        fs::create_dir(&paths[1]).unwrap();
        write_all(&drafts(b"two")).unwrap_err();
        assert_eq!(fs::read(&paths[0]).unwrap(), b"two");
        assert_eq!(names(folder.path()), ["a", "b"]);
    }

    #[test]
    fn sweeps_only_its_own_files() {
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner::of(folder.path()).unwrap();
        for name in [".monsys-x1.tmp", "agent.toml", ".monsys-note", "x.tmp"] {
            write(&folder.path().join(name), b"", 0o600, owner).unwrap();
        }
        fs::create_dir(folder.path().join(".monsys-folder.tmp")).unwrap();
        sweep(folder.path()).unwrap();
        assert_eq!(
            names(folder.path()),
            [".monsys-folder.tmp", ".monsys-note", "agent.toml", "x.tmp"]
        );
    }

    #[test]
    fn makes_folders_with_the_requested_mode() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("var/lib/monsys");
        let grant = |mode| Grant {
            owner: Owner::ours(),
            mode,
        };
        make_folder(&state, grant(0o700)).unwrap();
        make_folder(&state, grant(0o755)).unwrap();
        assert_eq!(fs::metadata(&state).unwrap().mode() & 0o7777, 0o700);
        let parent = fs::metadata(state.parent().unwrap()).unwrap();
        assert_eq!(parent.mode() & 0o7777, 0o755);
        write(
            &folder.path().join("file"),
            b"",
            0o600,
            Owner::of(&state).unwrap(),
        )
        .unwrap();
        let (path, error) = make_folder(&folder.path().join("file/x"), grant(0o700)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory, "{path:?}");
    }
}
