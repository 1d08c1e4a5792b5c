//! Looking at the host, without changing anything: what the plan is made from.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};

use super::change::Change;
use super::receipt::Receipt;
use super::{receipt, unwritable, user};
use agent_core::enrolment::Dialect;
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::settings::Settings;
use agent_core::store::atomic::{self, Grant, Owner};
use agent_core::store::lock::is_lock;

/// Where agent.toml is, unless it is told otherwise.
const CONFIG: &str = "/etc/monsys/agent.toml";

/// What the service has to read of `host`, and cannot. Only folders that are the agent's own by name,
/// or that an installation made, change their access: another one is the operator's.
pub(super) fn shares(
    host: &dyn Dialect,
    receipt: &Receipt,
    environment: &Environment,
) -> Vec<Change> {
    let access = environment.access();
    // Without the group, it is about to be made.
    let is_missing = |path: &Path, wanted: Grant| {
        fs::symlink_metadata(path).is_ok_and(|there| {
            let is = Grant {
                owner: Owner::new(there.uid(), there.gid()),
                mode: there.mode() & 0o7777,
            };
            !access.has_service_user() || is != wanted
        })
    };
    let mut changes = Vec::new();
    let own_folder = |path: &Path| {
        let made = receipt
            .done
            .iter()
            .any(|change| matches!(change, receipt::RecordedChange::MakeFolder { path: known } if known == path));
        made || path == Path::new(receipt::FOLDER)
    };
    for folder in host.folders() {
        let path = on_host(&folder.path, environment);
        let is_shared = folder.grant == access.shared_folder();
        if is_shared && own_folder(&path) && is_missing(&folder.path, access.shared_folder()) {
            let is_folder = true;
            changes.push(Change::Share { path, is_folder });
        }
    }
    for file in host.service_files() {
        if is_missing(&file, access.shared()) {
            changes.push(Change::Share {
                path: on_host(&file, environment),
                is_folder: false,
            });
        }
    }
    changes
}

/// Takes from the service's group what it could read: `files`, and what is below the agent's own
/// folder. Its number may become that of another group.
pub(super) fn unshare(files: &[PathBuf], environment: &Environment) -> Result<()> {
    let Some(service) = user::find(environment) else {
        return Ok(());
    };
    let folder = environment.resolved_path(receipt::FOLDER);
    let config = environment.path(CONFIG);
    let inside = fs::read_dir(&folder).into_iter().flatten().flatten();
    let inside = inside.map(|entry| entry.path()).chain([config, folder]);
    let paths: Vec<PathBuf> = inside.chain(files.iter().cloned()).collect();
    close(&paths, service)
}

/// Takes from the group of `service` those of `paths` that it can read.
pub(super) fn close(paths: &[PathBuf], service: Owner) -> Result<()> {
    let group = service.ids().1;
    for path in paths {
        let Ok(there) = fs::symlink_metadata(path) else {
            continue;
        };
        if there.gid() != group || there.is_symlink() {
            continue;
        }
        let grant = Grant {
            owner: owner_of_new(),
            mode: there.mode() & 0o700,
        };
        atomic::set_access(path, grant).map_err(|error| unwritable(path, &error))?;
    }
    Ok(())
}

/// A path of this machine as the host has it, without `--root`.
pub(super) fn on_host(path: &Path, environment: &Environment) -> PathBuf {
    environment
        .path_on_host(path)
        .unwrap_or_else(|| path.to_owned())
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
            entry.is_ok_and(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                atomic::is_temporary(&name) || is_lock(&name)
            })
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
/// [`agent_core::error::ErrorId::Unreadable`] for a pipe: the enrolment could not read it again.
pub(super) fn ca_for_service(
    settings: &Settings,
    environment: &Environment,
) -> Result<Option<Vec<u8>>> {
    let Some(given) = settings
        .ca_file
        .as_ref()
        .filter(|ca| ca.source.is_explicit())
    else {
        return Ok(None);
    };
    if given.is_pipe() {
        return given.read(settings.wait).map(Some);
    }
    let Ok(path) = fs::canonicalize(&given.value) else {
        return Ok(None);
    };
    if let Some(on_host) = environment.path_on_host(&path)
        && is_for_all(&path, &on_host)
    {
        return Ok(None);
    }
    // One that cannot be read is an error of the enrolment's.
    Ok(given.read_regular().ok())
}

/// Whether every user can read the file, and the service, which sees no home and no `/tmp`, too.
fn is_for_all(path: &Path, on_host: &Path) -> bool {
    const UNSEEN: [&str; 6] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp", "/dev"];
    let depth = on_host.components().count() - 1;
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
