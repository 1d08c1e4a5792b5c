//! Looking at the host, without changing anything: what the plan is made from.

use std::fs;
use std::io::ErrorKind::NotFound;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};

use super::change::Change;
use super::{receipt, user};
use crate::error::Result;
use crate::settings::Settings;
use crate::store::atomic::{self, Owner};
use crate::store::unreadable;
use crate::world::World;

/// What the service has to own, and does not.
///
/// # Errors
/// [`crate::error::ErrorId::Unreadable`].
pub(super) fn gives(settings: &Settings, world: &World) -> Result<Vec<Change>> {
    let service = user::find(world);
    let mut changes = Vec::new();
    let mut look = |path: &Path| -> Result<()> {
        let from = match fs::symlink_metadata(world.path(path)) {
            Ok(metadata) => Owner::new(metadata.uid(), metadata.gid()),
            // It is about to be made.
            Err(error) if error.kind() == NotFound => owner_of_new(),
            Err(error) => return Err(unreadable(&world.path(path), &error)),
        };
        let give = Change::Give {
            path: path.to_owned(),
            from,
        };
        if Some(from) != service && !changes.contains(&give) {
            changes.push(give);
        }
        Ok(())
    };
    let state_dir = &settings.state_dir.value;
    look(state_dir)?;
    look(parent(&settings.config_path))?;
    // An enrolment before there was a service left root's files.
    if world.path(&settings.config_path).exists() {
        look(&settings.config_path)?;
    }
    for entry in fs::read_dir(world.path(state_dir))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && Path::new(receipt::PATH).file_name() != Some(&name) {
            look(&state_dir.join(name))?;
        }
    }
    Ok(changes)
}

/// Who a folder belongs to that this run makes.
pub(super) fn owner_of_new() -> Owner {
    if nix::unistd::geteuid().is_root() {
        Owner::root()
    } else {
        Owner::ours()
    }
}

/// The folder that `path` is in.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Whether nothing is in the receipt's folder but what a run leaves that was killed before it had
/// a receipt.
pub(super) fn is_left_over(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| {
        entries.all(|entry| {
            entry.is_ok_and(|entry| atomic::is_temporary(&entry.file_name().to_string_lossy()))
        })
    })
}

/// Whether a program can be put into `folder`, or into one that is made there, and run from it.
pub(super) fn takes_programs(folder: &Path) -> bool {
    let Some(there) = folder.ancestors().find(|path| path.exists()) else {
        return false;
    };
    let is_noexec = statvfs(there).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC));
    there.is_dir() && access(there, AccessFlags::W_OK | AccessFlags::X_OK).is_ok() && !is_noexec
}

/// The CA file that this run was given, if the service could not read it where it is.
///
/// # Errors
/// [`crate::error::ErrorId::Unreadable`] for a pipe: the enrolment could not read it again.
pub(super) fn ca_for_service(settings: &Settings, world: &World) -> Result<Option<Vec<u8>>> {
    let Some(given) = settings.ca_file.as_ref().filter(|ca| ca.origin.is_asked()) else {
        return Ok(None);
    };
    if given.is_pipe() {
        return given.read(settings.wait).map(Some);
    }
    let Ok(path) = fs::canonicalize(&given.value) else {
        return Ok(None);
    };
    if let Ok(on_host) = path.strip_prefix(world.root())
        && is_for_all(&path, on_host)
    {
        return Ok(None);
    }
    // One that cannot be read is an error of the enrolment's.
    Ok(given.read_regular().ok())
}

/// Whether every user can read the file, and the service, which sees no home and no `/tmp`, too.
fn is_for_all(path: &Path, on_host: &Path) -> bool {
    const UNSEEN: [&str; 6] = ["home", "root", "run/user", "tmp", "var/tmp", "dev"];
    let depth = on_host.components().count();
    let may = |path: &Path, bits: u32| {
        fs::metadata(path).is_ok_and(|metadata| metadata.mode() & bits == bits)
    };
    !UNSEEN.iter().any(|folder| on_host.starts_with(folder))
        && may(path, 0o004)
        && path
            .ancestors()
            .skip(1)
            .take(depth)
            .all(|folder| may(folder, 0o001))
}
