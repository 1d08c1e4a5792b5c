//! The only writer of files: whole or not at all, and on the disk before it returns.
//!
//! Every write is a temporary file in the same directory with its final mode and owner, a write,
//! an fsync, a rename, and an fsync of the directory. Files of one directory that are written
//! together share the last of these.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use rustix::io::Errno;
use tempfile::{NamedTempFile, TempPath};

pub use super::access::Grant;
pub use super::ownership::Owner;
use super::{names, open};

/// Begin and end of a temporary file's name; a run that was killed leaves one, the next run
/// removes it.
const TEMPORARY: (&str, &str) = (".monsys-", ".tmp");

/// A file to be.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// Where it goes.
    pub path: &'a Path,
    /// What is in it.
    pub bytes: &'a [u8],
    /// Its owner and permission bits.
    pub grant: Grant,
}

/// Replaces `path` by a file with these bytes, mode and owner.
///
/// # Errors
/// What the system says; `path` is then as it was.
pub fn write(path: &Path, bytes: &[u8], mode: u32, owner: Owner) -> io::Result<()> {
    let grant = Grant { owner, mode };
    write_all(&[Draft { path, bytes, grant }])
}

/// Replaces files of one folder, each as by [`write()`], and each taking its place after the one
/// before it. Every file's bytes are on the disk before the first takes its place, and all of the
/// places are when this returns.
///
/// # Errors
/// What the system says; the first files may then be in their places, and the others are as they
/// were.
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

/// Replaces `path` by a file with these bytes, 0600 and of the user who runs this, without waiting
/// for the disk: for what is written often and can be lost. A crash leaves the old file, the new one,
/// or an empty one.
///
/// # Errors
/// What the system says.
#[expect(clippy::disallowed_methods, reason = "this is the writer")]
pub fn write_lazily(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // One name, so that a killed run's leftover is used again and no other is made.
    let temporary = folder_of(path).join(format!("{}{name}{}", TEMPORARY.0, TEMPORARY.1));
    // A link in its place may be somebody else's, and root follows none.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    fs::rename(&temporary, path)
}

/// Proves that `folder` takes a durable write of `room` bytes: all the steps of [`write()`], and
/// then the file is removed again.
///
/// # Errors
/// What the system says.
pub fn prove(folder: &Path, room: usize, owner: Owner) -> io::Result<()> {
    let mode = 0o600;
    let proof = temporary(folder, &vec![b'#'; room], Grant { owner, mode })?;
    // In the place of what a killed run may have left.
    let renamed = folder.join(format!("{}proof{}", TEMPORARY.0, TEMPORARY.1));
    proof.persist(&renamed).map_err(|error| error.error)?;
    let renamed = TempPath::try_from_path(renamed)?;
    sync_folder(folder)?;
    renamed.close()
}

/// Proves that `folder` has `room` bytes for files: for where [`write()`] itself is about to prove all
/// the rest of it.
///
/// # Errors
/// What the system says.
pub fn prove_room(folder: &Path, room: usize, owner: Owner) -> io::Result<()> {
    let mode = 0o600;
    temporary(folder, &vec![b'#'; room], Grant { owner, mode })?.close()
}

/// Removes what killed runs left in `folder`. Call it under the lock.
///
/// # Errors
/// What the system says.
pub fn sweep(folder: &Path) -> io::Result<()> {
    for name in names(folder)? {
        if is_temporary(&name.to_string_lossy()) {
            match remove(&folder.join(name)) {
                // A folder of such a name is nothing that a run of ours left.
                Err(error) if error.kind() == io::ErrorKind::IsADirectory => {}
                removed => removed?,
            }
        }
    }
    Ok(())
}

/// Whether a file of this name is one of the writer's own, left by a run that was killed.
#[must_use]
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1)
}

/// Renames a file within its directory, durably.
///
/// # Errors
/// What the system says.
#[expect(clippy::disallowed_methods, reason = "this is the writer")]
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(folder_of(to))
}

/// Removes a file, durably. One that is not there is fine.
///
/// # Errors
/// What the system says.
#[expect(clippy::disallowed_methods, reason = "this is the writer")]
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(folder_of(path)),
    }
}

/// Sets owner and permission bits of `path`, a folder or a file of one name. Only root can give a
/// file away; see [`Owner::own`].
///
/// # Errors
/// What the system says; a link is not followed, and a file that has a second name elsewhere is
/// refused: whoever may write in its folder could have made that name.
pub fn set_access(path: &Path, grant: Grant) -> io::Result<()> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.nlink() > 1 {
        return Err(io::Error::other("the file has a second name elsewhere"));
    }
    // A change of the owner clears bits (chown(2)), so the mode comes last.
    grant.owner.own(&file)?;
    file.set_permissions(Permissions::from_mode(grant.mode))
}

/// Removes the access control lists of `folder` (acl(5)): its own, and the one that new files in it get.
/// They go on when the owner changes, and would let others read what is written there.
///
/// # Errors
/// What the system says. A file system without such lists has none.
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

/// As [`set_access`], unless owner and permission bits are right already.
///
/// # Errors
/// As [`set_access`].
pub fn share(path: &Path, grant: Grant) -> io::Result<()> {
    if is_as(&fs::symlink_metadata(path)?, grant) {
        return Ok(());
    }
    set_access(path, grant)
}

/// Whether owner and permission bits of `path` are these.
#[must_use]
pub fn has_access(path: &Path, grant: Grant) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| is_as(&there, grant))
}

fn is_as(there: &fs::Metadata, grant: Grant) -> bool {
    let owner = Owner::new(there.uid(), there.gid());
    (owner, there.mode() & 0o7777) == (grant.owner, grant.mode)
}

/// Makes a second name of a file, durably.
///
/// # Errors
/// What the system says.
pub fn second_name(path: &Path, name: &Path) -> io::Result<()> {
    fs::hard_link(path, name)?;
    sync_folder(folder_of(name))
}

/// Makes a symbolic link, durably.
///
/// # Errors
/// What the system says.
pub fn link(path: &Path, target: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)?;
    sync_folder(folder_of(path))
}

/// Removes a folder that is empty, durably. One that is not there is fine.
///
/// # Errors
/// What the system says.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(folder_of(folder)),
    }
}

/// Name of the second name under which a file is kept while it is replaced. A run that is killed
/// leaves it, and [`sweep`] removes it.
#[must_use]
pub fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    folder_of(path).join(format!("{}before-{name}{}", TEMPORARY.0, TEMPORARY.1))
}

/// Makes `folder` as `grant` says, and its parents (0755) as needed. One that is there is left alone,
/// but for an empty one of root's that others may write to, such as the mount point of a container's
/// volume: what `grant` says becomes of it.
///
/// # Errors
/// What the system says, with the path that it is about.
pub fn make_folder(folder: &Path, grant: Grant) -> Result<(), (PathBuf, io::Error)> {
    let parent = folder_of(folder);
    let fault = |error| (folder.into(), error);
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
                Ok(metadata) if metadata.is_dir() => set_access(folder, grant).map_err(fault),
                Ok(_) => Err(fault(io::Error::new(
                    io::ErrorKind::NotADirectory,
                    "it is not a directory",
                ))),
                Err(error) => Err(fault(error)),
            };
        }
        Err(error) => return Err(fault(error)),
    }
    // The mode of `create` is cut by the umask.
    set_access(folder, grant)
        .and_then(|()| sync_folder(parent))
        .map_err(fault)
}

/// Whether root runs this, and `folder` is root's, empty, and open to others.
fn is_open_mount(folder: &Path, metadata: &fs::Metadata) -> bool {
    Owner::ours().is_root()
        && metadata.uid() == 0
        && metadata.mode() & 0o002 != 0
        && names(folder).is_ok_and(|names| names.is_empty())
}

fn temporary(folder: &Path, bytes: &[u8], grant: Grant) -> io::Result<NamedTempFile> {
    let Grant { owner, mode } = grant;
    let create = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY.0)
        .suffix(TEMPORARY.1)
        .make_in(folder, |path| {
            open(path, create, Mode::S_IRUSR | Mode::S_IWUSR)
        })?;
    let metadata = file.as_file().metadata()?;
    owner.own_as(file.as_file(), &metadata)?;
    // The mode of the open is cut by the umask.
    if metadata.mode() & 0o7777 != mode {
        file.as_file()
            .set_permissions(Permissions::from_mode(mode))?;
    }
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    open(folder, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?.sync_all()
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
    fn replaces_whole_files_with_their_mode_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let owner = Owner::of(folder.path()).unwrap();
        write(&path, b"one", 0o644, owner).unwrap();
        write(&path, b"two", 0o600, owner).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        prove(folder.path(), 10_000, owner).unwrap();
        prove_room(folder.path(), 10_000, owner).unwrap();
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn files_that_belong_together_take_their_places_in_order() {
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
        // The second one's place is taken, so it fails; the first has its new bytes.
        remove(&paths[1]).unwrap();
        fs::create_dir(&paths[1]).unwrap();
        write_all(&drafts(b"two")).unwrap_err();
        assert_eq!(fs::read(&paths[0]).unwrap(), b"two");
        assert_eq!(names(folder.path()), ["a", "b"]);
    }

    #[test]
    fn sweeps_only_what_is_its_own() {
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
    fn makes_folders_with_the_mode_asked_for() {
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
