//! Inspection of the host for the plan, and the access of the service's group.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};

use super::change::Change;
use super::record::InstallRecord;
use super::{record, unwritable, user};
use agent_core::enrolment::Dialect;
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::settings::Settings;
use agent_core::store::atomic::{self, Grant, Owner};
use agent_core::store::lock::is_lock;

/// The default path of agent.toml.
const CONFIG: &str = "/etc/monsys/agent.toml";

/// Returns a change for each file that the service of `host` has to read and cannot read. Only the
/// agent's own folder, and folders that an installation made, change their access: the others are the
/// operator's.
pub(super) fn shares(
    host: &dyn Dialect,
    record: &InstallRecord,
    environment: &Environment,
) -> Vec<Change> {
    let access = environment.access();
    // If the group does not exist, the plan makes it, and every file needs the change.
    let is_missing = |path: &Path, wanted: Grant| {
        fs::symlink_metadata(path).is_ok_and(|metadata| {
            let current = Grant {
                owner: Owner::new(metadata.uid(), metadata.gid()),
                mode: metadata.mode() & 0o7777,
            };
            !access.has_service_user() || current != wanted
        })
    };
    let mut changes = Vec::new();
    let own_folder = |path: &Path| {
        let made = record
            .done
            .iter()
            .any(|change| matches!(change, record::RecordedChange::MakeFolder { path: known } if known == path));
        made || path == Path::new(record::FOLDER)
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

/// Removes the access of the service's group to `files`, and to the files in the agent's own folder. The
/// number of the group may become that of another group.
pub(super) fn unshare(files: &[PathBuf], environment: &Environment) -> Result<()> {
    let Some(service) = user::find(environment) else {
        return Ok(());
    };
    let folder = environment.resolved_path(record::FOLDER);
    let config = environment.path(CONFIG);
    let inside = fs::read_dir(&folder).into_iter().flatten().flatten();
    let inside = inside.map(|entry| entry.path()).chain([config, folder]);
    let paths: Vec<PathBuf> = inside.chain(files.iter().cloned()).collect();
    remove_access(&paths, service)
}

/// Removes the access of the group of `service` to `paths`.
pub(super) fn remove_access(paths: &[PathBuf], service: Owner) -> Result<()> {
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

/// Returns a path as the host has it, without `--root`.
pub(super) fn on_host(path: &Path, environment: &Environment) -> PathBuf {
    environment
        .path_on_host(path)
        .unwrap_or_else(|| path.to_owned())
}

/// Returns the owner of folders that this run makes.
pub(super) fn owner_of_new() -> Owner {
    if nix::unistd::geteuid().is_root() {
        Owner::root()
    } else {
        Owner::ours()
    }
}

/// Returns the folder of `path`.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Returns true if the install record's folder contains only the files of a run that was killed before it wrote
/// an install record.
pub(super) fn has_only_temporary_files(folder: &Path) -> bool {
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

/// Returns true if programs can be written to and executed in `folder`, or in its nearest existing
/// parent.
pub(super) fn takes_programs(folder: &Path) -> bool {
    let Some(existing) = folder.ancestors().find(|path| path.exists()) else {
        return false;
    };
    let is_noexec = statvfs(existing).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC));
    existing.is_dir()
        && access(existing, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
        && !is_noexec
}

/// Returns the content of the CA file that this run was given, if the service cannot read that file.
///
/// # Errors
/// [`agent_core::error::ErrorId::Unreadable`] for a pipe, which the enrolment cannot read a second time.
pub(super) fn ca_for_service(
    settings: &Settings,
    environment: &Environment,
) -> Result<Option<Vec<u8>>> {
    let Some(ca_file) = settings
        .ca_file
        .as_ref()
        .filter(|ca| ca.source.is_explicit())
    else {
        return Ok(None);
    };
    if ca_file.is_pipe() {
        return ca_file.read(settings.wait.value).map(Some);
    }
    let Ok(path) = fs::canonicalize(&ca_file.value) else {
        return Ok(None);
    };
    if let Some(on_host) = environment.path_on_host(&path)
        && is_readable_by_all(&path, &on_host)
    {
        return Ok(None);
    }
    // The enrolment reports a file that cannot be read.
    Ok(ca_file.read_regular().ok())
}

/// Returns true if every user can read the file, and the service too, which sees no home and no `/tmp`
/// (`ProtectHome=` and `PrivateTmp=` of systemd.exec(5)).
fn is_readable_by_all(path: &Path, on_host: &Path) -> bool {
    const HIDDEN: [&str; 6] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp", "/dev"];
    let depth = on_host.components().count() - 1;
    let may = |path: &Path, bits: u32| {
        fs::metadata(path).is_ok_and(|metadata| metadata.mode() & bits == bits)
    };
    !HIDDEN.iter().any(|folder| on_host.starts_with(folder))
        && may(path, 0o004)
        && path
            .ancestors()
            .skip(1)
            .take(depth)
            .all(|folder| may(folder, 0o001))
}
