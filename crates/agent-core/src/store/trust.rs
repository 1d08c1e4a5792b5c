//! Root obeys nothing that others can write (contract, section 5).
//!
//! Run by root, the agent takes a file for its own only when that file and each folder above it
//! belong to root, and nobody else may write there. In a sticky folder, as `/tmp` is, others may
//! write but not replace what is root's (chmod(1), "restricted deletion"). Any other user obeys what
//! that user could change anyway, so nothing is checked then.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::ownership::Owner;
use crate::error::{Error, ErrorId, Result};

/// Group or others may write.
const OTHERS_WRITE: u32 = 0o022;
/// Others may not replace or remove what is not theirs.
const STICKY: u32 = 0o1000;

/// Folders that have passed. Only root could have opened one of them since, so none is looked at twice.
#[derive(Debug, Default)]
pub struct Trusted(BTreeSet<PathBuf>);

impl Trusted {
    /// Refuses the folder `path` when anybody else than root could put something there, or into the
    /// place of a folder above it. Folders above `root` are the operator's choice and are not looked
    /// at; what is not there yet is not refused.
    ///
    /// # Errors
    /// [`ErrorId::ForeignOwner`] with the path and the command that fixes it.
    pub fn folder(&mut self, path: &Path, root: &Path) -> Result<()> {
        if !is_root() {
            return Ok(());
        }
        // Behind a link of root's, the folders that it leads to count as well, and what is not there yet
        // would be made in them.
        if self.chain(path, root)?
            && let Some((there, real)) = path
                .ancestors()
                .find_map(|folder| Some((folder, fs::canonicalize(folder).ok()?)))
        {
            let missing = path.strip_prefix(there).unwrap_or(Path::new(""));
            self.chain(&real.join(missing), Path::new("/"))?;
        }
        Ok(())
    }

    /// Refuses the file `path`, which may be a link of root's, as [`Trusted::folder`] refuses a folder.
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

    /// Looks at each folder from `root` down to `path`. Returns whether one of them is a link.
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
            // What is not there yet is made by us; what cannot be looked at fails when it is used.
            let Ok(metadata) = fs::symlink_metadata(folder) else {
                break;
            };
            let is_last = index + 1 == folders.len();
            has_links |= metadata.is_symlink();
            if is_last && is_empty_folder(folder, &metadata) {
                // Nobody has put anything there yet, and who writes there first closes it.
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

/// Refuses a file that is open already.
///
/// # Errors
/// An error for [`explained`], which holds what is wrong.
pub fn opened(path: &Path, metadata: &Metadata) -> io::Result<()> {
    if !is_root() || is_safe(metadata) {
        return Ok(());
    }
    Err(io::Error::other(Untrusted::new(path, metadata)))
}

/// Whether nobody but root can put something into `folder`.
#[must_use]
pub fn only_root_writes(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|metadata| is_safe(&metadata))
}

/// The error of the catalogue, when `error` is one of [`opened`].
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

/// Whether only root can write it. Root's own group has no other members, and a link has no
/// permission bits of its own.
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

/// Something that others than root can write.
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
                "root obeys only files that nobody else can write, and this one belongs to user {} and group {}, mode {:04o}",
                self.uid, self.gid, self.mode
            ),
        )
        .about(&path)
        .hint(format!(
            "look at what it says; then: {}; a tree that an older release gave to the service's user is taken over by: monsys-agent prepare",
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
    fn whatever_others_can_write_is_refused_at_each_place_of_the_path() {
        assert!(is_root(), "run this test as root");
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
            // The next folder is root's, so nobody else can replace it.
            (&etc, 0, 0o1777, true),
            (&etc, 7, 0o1777, false),
            // But what is in the last one may have been put there by anybody.
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

        // A link of root's is as good as what it leads to.
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
