//! Root trusts only files that no other user can write (contract, section 5).
//!
//! If root runs the agent, it uses a file only when the file and each folder above it belong to root, and
//! no other user may write there. In a sticky folder, such as `/tmp`, other users may write, but not
//! replace files of root (chmod(1), "restricted deletion"). Another user than root could change its own
//! files anyway, so nothing is checked then.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::ownership::Owner;
use crate::error::{Error, ErrorId, Result};

/// Permission bits: the group or others may write.
const OTHERS_WRITE: u32 = 0o022;
/// Permission bit: a user may replace or remove only that user's own files.
const STICKY: u32 = 0o1000;

/// The folders that were accepted. Only root could have changed them since, so each is checked once.
#[derive(Debug, Default)]
pub struct Trusted(BTreeSet<PathBuf>);

impl Trusted {
    /// Refuses the folder `path` when another user than root could write in it, or replace a folder above
    /// it. Folders above `root` are the operator's choice and are not checked. A missing folder is
    /// accepted.
    ///
    /// # Errors
    /// [`ErrorId::ForeignOwner`] with the path and the command that fixes it.
    pub fn folder(&mut self, path: &Path, root: &Path) -> Result<()> {
        if !is_root() {
            return Ok(());
        }
        // The folders behind a symbolic link of root count too: a missing folder would be made in them.
        if self.chain(path, root)?
            && let Some((existing, real)) = path
                .ancestors()
                .find_map(|folder| Some((folder, fs::canonicalize(folder).ok()?)))
        {
            let missing = path.strip_prefix(existing).unwrap_or(Path::new(""));
            self.chain(&real.join(missing), Path::new("/"))?;
        }
        Ok(())
    }

    /// Refuses the file `path`, which may be a link of root, as [`Trusted::folder`] refuses a folder.
    ///
    /// # Errors
    /// [`ErrorId::ForeignOwner`].
    pub fn file(&mut self, path: &Path, root: &Path) -> Result<()> {
        if !is_root() {
            return Ok(());
        }
        self.folder(path.parent().unwrap_or(root), root)?;
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() => {
                refuse(path, &metadata)?;
                match fs::canonicalize(path) {
                    Ok(real) => self.file(&real, Path::new("/")),
                    Err(_) => Ok(()),
                }
            }
            Ok(metadata) => refuse(path, &metadata),
            Err(_) => Ok(()),
        }
    }

    /// Checks each folder from `root` down to `path`. Returns whether one of them is a link.
    fn chain(&mut self, path: &Path, root: &Path) -> Result<bool> {
        let mut folders: Vec<&Path> = path
            .ancestors()
            .take_while(|folder| folder.starts_with(root))
            .collect();
        folders.reverse();
        let mut has_links = false;
        for (index, folder) in folders.iter().enumerate() {
            if self.0.contains(*folder) {
                continue;
            }
            // The agent makes a missing folder itself. A folder that cannot be checked cannot be used.
            let Ok(metadata) = fs::symlink_metadata(folder) else {
                break;
            };
            let is_last = index + 1 == folders.len();
            has_links |= metadata.is_symlink();
            if is_last && is_empty_folder(folder, &metadata) {
                // An empty folder is safe: the agent restricts its permissions before the first write.
                break;
            }
            if is_last || metadata.is_symlink() || metadata.mode() & STICKY == 0 {
                refuse(folder, &metadata)?;
            } else if metadata.uid() != 0 {
                return Err(Untrusted::new(folder, &metadata).error());
            }
            if metadata.is_dir() && is_safe(&metadata) {
                self.0.insert((*folder).to_owned());
            }
        }
        Ok(has_links)
    }
}

/// Refuses an open file that another user than root can write.
///
/// # Errors
/// An error that [`explained`] turns into an error of the catalogue.
pub fn opened(path: &Path, metadata: &Metadata) -> io::Result<()> {
    if !is_root() || is_safe(metadata) {
        return Ok(());
    }
    Err(io::Error::other(Untrusted::new(path, metadata)))
}

/// Returns true when only root can write in `folder`.
#[must_use]
pub fn only_root_writes(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|metadata| is_safe(&metadata))
}

/// Returns the error of the catalogue for an error of [`opened`].
#[must_use]
pub fn explained(error: &io::Error) -> Option<Error> {
    let untrusted = error.get_ref()?.downcast_ref::<Untrusted>()?;
    Some(untrusted.error())
}

fn is_empty_folder(folder: &Path, metadata: &Metadata) -> bool {
    let is_empty = || super::names(folder).is_ok_and(|names| names.is_empty());
    metadata.uid() == 0 && metadata.is_dir() && !is_safe(metadata) && is_empty()
}

fn refuse(path: &Path, metadata: &Metadata) -> Result<()> {
    if is_safe(metadata) {
        return Ok(());
    }
    Err(Untrusted::new(path, metadata).error())
}

/// Returns true when only root can write the file. Root's own group has no other members, and a link has
/// no permission bits of its own.
fn is_safe(metadata: &Metadata) -> bool {
    let others = match metadata.gid() {
        0 => OTHERS_WRITE & !0o020,
        _ => OTHERS_WRITE,
    };
    metadata.uid() == 0 && (metadata.is_symlink() || metadata.mode() & others == 0)
}

fn is_root() -> bool {
    Owner::ours().is_root()
}

/// A path that other users than root can write.
#[derive(Debug)]
struct Untrusted {
    path: PathBuf,
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Untrusted {
    fn new(path: &Path, metadata: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            mode: metadata.mode() & 0o7777,
        }
    }

    fn error(&self) -> Error {
        let path = self.path.display();
        let mut fixes = Vec::new();
        if self.uid != 0 {
            fixes.push(format!("chown -h root '{path}'"));
        }
        if self.mode & OTHERS_WRITE != 0 {
            fixes.push(format!("chmod go-w '{path}'"));
        }
        Error::new(
            ErrorId::ForeignOwner,
            format!(
                "root uses only files that no other user can write; this path belongs to user {} and group {}, mode {:04o}",
                self.uid, self.gid, self.mode
            ),
        )
        .about(&path)
        .hint(format!(
            "check its content; then: {}; if an older release gave the path to the service's user: monsys-agent prepare",
            fixes.join(" && ")
        ))
    }
}

impl std::fmt::Display for Untrusted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.error().cause())
    }
}

impl std::error::Error for Untrusted {}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    fn folder(path: &Path, root: &Path) -> Result<()> {
        Trusted::default().folder(path, root)
    }

    fn file(path: &Path, root: &Path) -> Result<()> {
        Trusted::default().file(path, root)
    }

    fn set(path: &Path, uid: u32, mode: u32) {
        chown(path, Some(uid), Some(uid)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    #[ignore = "needs root: gives files to other users"]
    fn whatever_others_can_write_is_refused_at_each_place_of_the_path() {
        assert!(
            is_root(),
            "this test needs root: run it as root with `--include-ignored`"
        );
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        let (etc, own) = (root.join("etc"), root.join("etc/monsys"));
        fs::create_dir_all(&own).unwrap();
        let toml = own.join("agent.toml");
        crate::store::atomic::write(&toml, b"", 0o600, crate::store::atomic::Owner::ours())
            .unwrap();
        for path in [&etc, &own] {
            set(path, 0, 0o755);
        }
        set(&toml, 0, 0o640);
        file(&toml, root).unwrap();
        file(&own.join("not-there"), root).unwrap();
        folder(&own.join("not/there"), root).unwrap();

        for (path, uid, mode, is_good) in [
            (&toml, 7, 0o600, false),
            (&toml, 0, 0o666, false),
            (&own, 7, 0o755, false),
            (&own, 0, 0o757, false),
            (&etc, 7, 0o755, false),
            (&etc, 0, 0o777, false),
            // The next folder belongs to root, so no other user can replace it.
            (&etc, 0, 0o1777, true),
            (&etc, 7, 0o1777, false),
            // Any user may have put the files into the last folder.
            (&own, 0, 0o1777, false),
        ] {
            let before = fs::metadata(path).unwrap();
            set(path, uid, mode);
            let checked = file(&toml, root);
            assert_eq!(checked.is_ok(), is_good, "{path:?} {uid} {mode:o}");
            if let Err(error) = checked {
                assert_eq!(error.exit_code(), 78);
                assert_eq!(error.subject(), path.to_str());
                assert!(error.next_step().contains(path.to_str().unwrap()));
            }
            set(path, before.uid(), before.mode() & 0o7777);
        }

        // A link of root is as safe as its target.
        let (elsewhere, link) = (root.join("elsewhere"), root.join("link"));
        fs::create_dir(&elsewhere).unwrap();
        set(&elsewhere, 7, 0o755);
        symlink(&elsewhere, &link).unwrap();
        folder(&link.join("monsys"), root).unwrap_err();
        set(&elsewhere, 0, 0o755);
        folder(&link, root).unwrap();
        std::os::unix::fs::lchown(&link, Some(7), Some(7)).unwrap();
        folder(&link, root).unwrap_err();
    }
}
