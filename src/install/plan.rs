//! The plan: every change that the host needs. Planning changes nothing.

use std::fs;
use std::io::ErrorKind::NotFound;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::change::{Change, ExistingFile, PutFile, sha256};
use super::inspect::{
    ca_for_service, has_only_temporary_files, on_host, owner_of_new, parent, shares, takes_programs,
};
use super::record::{self, InstallRecord, RecordedChange};
use super::service::{OPENRC_SETTINGS, ServiceManager};
use super::user::{self, USER};
use super::{InstallOptions, NotDone, unwritable};
use crate::dialects;
use agent_core::ca_copy::CA_COPY;
use agent_core::enrolment::Dialect;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::settings::table::DIALECT;
use agent_core::store::unreadable;

/// The folders for the program, one per line. The first in which programs can be written and executed is
/// used. None is a folder of the service, so that the service cannot replace a program that root runs.
/// The Ansible role searches for the program by the same file.
const BIN_FOLDERS: &str = include_str!("../../ansible/roles/monsys_agent/files/bin_folders");
const BIN_NAME: &str = "monsys-agent";

/// The changes that the host needs.
pub(super) struct InstallPlan {
    /// The path of the program.
    pub(super) binary: PathBuf,
    /// The changes before the enrolment.
    pub(super) before: Vec<Change>,
    /// The changes after the enrolment.
    pub(super) after: Vec<Change>,
    /// The service manager of the host.
    pub(super) manager: Option<ServiceManager>,
    /// The steps that are not done on this host.
    pub(super) not_done: Vec<NotDone>,
    /// The flags for the enrolment.
    pub(super) flags: Flags,
}

impl InstallPlan {
    /// Inspects the host, and plans the changes.
    ///
    /// # Errors
    /// [`ErrorId::NotInstallable`] if the path of a file is occupied, or if no folder accepts the program;
    /// [`ErrorId::Unreadable`].
    pub(super) fn of(
        options: &InstallOptions,
        host: &dyn Dialect,
        record: &InstallRecord,
        made: &[PathBuf],
        environment: &Environment,
    ) -> Result<Self> {
        let variables = service_variables(options, host, environment)?;
        let found = manager_for_dialect(options, environment)?;
        // Without its variables, the service would serve another dialect.
        let manager = found.filter(|manager| manager.gives(&variables, environment));
        let mut builder = PlanBuilder {
            environment,
            record,
            made,
            adopts: has_lost_record(record, environment),
            changes: Vec::new(),
        };
        let binary = builder.binary()?;
        let mut flags = options.flags.clone();
        let mut not_done = Vec::new();

        // The install record is written first, so its folder is made first.
        builder.folder(Path::new(record::FOLDER), 0o700)?;
        let settings = host.settings();
        for folder in host.folders() {
            builder.folder(&on_host(&folder.path, environment), folder.grant.mode)?;
        }
        let config_dir = parent(&settings.config_path);
        if let Some(manager) = manager {
            let (is_complete, group) = service_group(record, environment)?;
            let has_user = user::find(environment).is_some() && is_complete;
            if !has_user && environment.is_live() {
                builder.changes.push(Change::MakeUser { group });
            }
            if user::find(environment).is_some() || environment.is_live() {
                let is_made =
                    |change: &Change| made.contains(&environment.resolved_path(change.path()));
                let shares = shares(host, builder.record, environment);
                builder
                    .changes
                    .extend(shares.into_iter().filter(|change| !is_made(change)));
            } else {
                not_done.push(NotDone {
                    what: format!("the user {USER}"),
                    cause: format!("{} is not the running system", environment.root().display()),
                    hint: "run `monsys-agent install` once on the host itself, or in a chroot"
                        .into(),
                });
            }
            if !manager.runs(environment) && options.starts() {
                not_done.push(NotDone {
                    what: "the start of the service".into(),
                    cause: format!("{} is not running here", manager.name()),
                    hint: "no action is needed: the service starts at the next boot".into(),
                });
            }
        } else if found.is_some() {
            not_done.push(variables_not_set(&variables));
        } else {
            not_done.push(NotDone {
                what: "the service".into(),
                cause: "this host has neither systemd nor OpenRC".into(),
                hint: format!(
                    "configure the service manager of this host to run: {} run",
                    binary.display()
                ),
            });
        }
        if let Some(ca) = ca_for_service(settings, environment)? {
            let copy = config_dir.join(CA_COPY);
            builder.file(&copy, ca, 0o644)?;
            flags.ca_file = Some(environment.path(&copy).to_string_lossy().into_owned());
        }
        let program = environment.executable();
        let bytes = fs::read(program).map_err(|error| unreadable(program, &error))?;
        builder.file(&binary, bytes, 0o755)?;
        for file in manager
            .iter()
            .flat_map(|manager| manager.files(&binary, settings, options.ephemeral, &variables))
        {
            builder.file(&file.path, file.text.into_bytes(), file.mode)?;
        }
        if options.ephemeral && manager != Some(ServiceManager::Systemd) {
            not_done.push(NotDone {
                what: "--ephemeral".into(),
                cause: "only systemd distinguishes a power-off from a reboot".into(),
                hint: "run `monsys-agent unenrol` before this host is removed".into(),
            });
        }
        let enabling = builder.changes.len();
        if let Some(manager) = manager {
            let (path, target) = manager.enabling_link();
            builder.link(Path::new(path), Path::new(target))?;
        }
        let mut before = builder.changes;
        let after = before.split_off(enabling);
        Ok(Self {
            binary,
            before,
            after,
            manager,
            not_done,
            flags,
        })
    }
}

/// Returns the folders that may contain the program.
pub(super) fn program_folders() -> impl Iterator<Item = &'static str> {
    BIN_FOLDERS.lines()
}

impl InstallPlan {
    /// Returns the paths of the files that the plan writes.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.before.iter().filter_map(|change| match change {
            Change::PutFile(file) => Some(file.path.as_path()),
            _ => None,
        })
    }
}

/// Returns the service manager. Refuses a host whose service serves another dialect than this run's.
///
/// # Errors
/// [`ErrorId::OtherDialect`].
fn manager_for_dialect(
    options: &InstallOptions,
    environment: &Environment,
) -> Result<Option<ServiceManager>> {
    let manager = ServiceManager::of(environment);
    let requested = dialects::select(&options.flags, environment)?.name;
    let default = dialects::default().name;
    match manager.and_then(|manager| manager.served_dialect(default, environment)) {
        Some(served) if served != requested => Err(Error::new(
            ErrorId::OtherDialect,
            format!("the service serves {served}, and this run is for {requested}"),
        )),
        _ => Ok(manager),
    }
}

/// Returns whether the service's user can have its group, and the id of the group that existed before the user.
fn service_group(record: &InstallRecord, environment: &Environment) -> Result<(bool, Option<u32>)> {
    if let Some(RecordedChange::MakeUser { group, .. }) = record.made_user() {
        // A run that was killed while it made the user may have left no group.
        return Ok((user::has_group(environment), *group));
    }
    user::check(environment)?;
    Ok((true, user::group(environment)))
}

/// Returns true if the host has the service of an installation, and no install record of it.
pub(super) fn has_lost_record(record: &InstallRecord, environment: &Environment) -> bool {
    ServiceManager::installed_file(environment)
        .is_some_and(|path| record.file(Path::new(path)).is_none())
}

/// Returns the environment variables that select the dialect of the service, and configure it.
fn service_variables(
    options: &InstallOptions,
    host: &dyn Dialect,
    environment: &Environment,
) -> Result<Vec<(&'static str, String)>> {
    let dialect = dialects::select(&options.flags, environment)?;
    if dialects::is_default(dialect) {
        return Ok(Vec::new());
    }
    let mut variables = vec![(DIALECT.variables[0], dialect.name.to_owned())];
    variables.extend(host.service_environment());
    Ok(variables)
}

/// Returns the step for the operator of an `OpenRC` host: only systemd has a separate file for variables.
fn variables_not_set(variables: &[(&str, String)]) -> NotDone {
    let assignments: Vec<String> = variables
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    NotDone {
        what: "the service".into(),
        cause: "OpenRC reads its dialect from a file that only the operator changes".into(),
        hint: format!(
            "add to {OPENRC_SETTINGS}, and run the same command again: export {}",
            assignments.join(" ")
        ),
    }
}

/// The changes that are planned so far.
struct PlanBuilder<'a> {
    environment: &'a Environment,
    record: &'a InstallRecord,
    /// The folders that this run has made for its lock. The plan treats them as missing.
    made: &'a [PathBuf],
    /// The host has the files of an installation, and no install record of them: the files that the plan needs are
    /// recorded again, so that `uninstall` removes them.
    adopts: bool,
    changes: Vec<Change>,
}

impl PlanBuilder<'_> {
    /// Returns the path of the program: the path of a former run, or a path in the first suitable folder.
    fn binary(&self) -> Result<PathBuf> {
        let candidates = || {
            BIN_FOLDERS
                .lines()
                .map(|folder| Path::new(folder).join(BIN_NAME))
        };
        if let Some(known) = candidates().find(|path| self.record.file(path).is_some()) {
            return Ok(known);
        }
        candidates()
            .find(|path| takes_programs(&self.environment.resolved_path(parent(path))))
            .ok_or_else(|| {
                Error::new(
                    ErrorId::NotInstallable,
                    format!(
                        "{} are read-only or mounted noexec",
                        BIN_FOLDERS.trim_end().replace('\n', ", ")
                    ),
                )
                .hint("make one of them writable, and run the same command again")
            })
    }

    /// Plans the folder and its parents, if they do not exist.
    fn folder(&mut self, path: &Path, mode: u32) -> Result<()> {
        let on_disk = self.environment.resolved_path(path);
        let is_of_record = path == Path::new(record::FOLDER);
        // A link below `--root` may point to folders that do not exist yet.
        let path = &self
            .environment
            .path_on_host(&on_disk)
            .unwrap_or(path.into());
        let is_planned = self.changes.iter().any(
            |change| matches!(change, Change::MakeFolder { path: known, .. } if known == path),
        );
        if is_planned {
            return Ok(());
        }
        let is_incomplete =
            is_of_record && self.record.done.is_empty() && has_only_temporary_files(&on_disk);
        match fs::metadata(&on_disk) {
            Ok(metadata) if metadata.is_dir() && self.made.contains(&on_disk) => {
                self.folder(parent(path), 0o755)?;
                let path = path.to_owned();
                self.changes.push(Change::MakeFolder { path, mode });
                Ok(())
            }
            Ok(metadata) if metadata.is_dir() && !is_incomplete => Ok(()),
            Ok(metadata) if metadata.is_dir() => {
                let path = path.to_owned();
                self.changes.push(Change::MakeFolder { path, mode });
                Ok(())
            }
            Ok(_) => Err(self.occupied(path, "it is not a folder")),
            Err(error) if error.kind() == NotFound && path != Path::new("/") => {
                self.folder(parent(path), 0o755)?;
                let path = path.to_owned();
                self.changes.push(Change::MakeFolder { path, mode });
                Ok(())
            }
            Err(error) => Err(unwritable(&on_disk, &error)),
        }
    }

    /// Plans the file, if the existing file differs in content, owner or mode.
    fn file(&mut self, path: &Path, bytes: Vec<u8>, mode: u32) -> Result<()> {
        self.folder(parent(path), 0o755)?;
        let on_disk = self.environment.path(path);
        let existing = match fs::symlink_metadata(&on_disk) {
            Err(error) if error.kind() == NotFound => ExistingFile::None,
            Err(error) => return Err(unwritable(&on_disk, &error)),
            Ok(metadata) if !metadata.is_file() => {
                return Err(self.occupied(path, "it is not a regular file"));
            }
            Ok(metadata) => {
                let old = fs::read(&on_disk).map_err(|error| unreadable(&on_disk, &error))?;
                let is_owned = (metadata.uid(), metadata.gid()) == owner_of_new().ids();
                let has_mode = metadata.permissions().mode() & 0o7777 == mode;
                let recorded = self.record.file(path);
                let is_lost = self.adopts && recorded.is_none();
                if old == bytes && is_owned && has_mode && !is_lost {
                    return Ok(());
                }
                match recorded {
                    Some((sums, _)) if sums.contains(&sha256(&old)) => ExistingFile::Ours,
                    // A run was killed before it gave the foreign file its second name.
                    Some((_, Some(kept))) if !self.environment.path(kept).exists() => {
                        ExistingFile::Foreign
                    }
                    Some(_) => ExistingFile::Changed,
                    None if is_lost => ExistingFile::Ours,
                    None => ExistingFile::Foreign,
                }
            }
        };
        self.changes.push(Change::PutFile(PutFile {
            path: path.to_owned(),
            bytes,
            mode,
            existing,
        }));
        Ok(())
    }

    /// Plans the link, if it does not exist.
    fn link(&mut self, path: &Path, target: &Path) -> Result<()> {
        self.folder(parent(path), 0o755)?;
        let on_disk = self.environment.path(path);
        match fs::read_link(&on_disk) {
            Ok(known) if known == target && !self.adopts => Ok(()),
            Err(error) if error.kind() == NotFound => {
                let (path, target) = (path.to_owned(), target.to_owned());
                self.changes.push(Change::Link { path, target });
                Ok(())
            }
            Ok(known) if known == target => {
                let (path, target) = (path.to_owned(), target.to_owned());
                self.changes.push(Change::Link { path, target });
                Ok(())
            }
            Ok(_) => Err(self.occupied(path, "it is a link to something else")),
            Err(_) => Err(self.occupied(path, "it is not a symbolic link")),
        }
    }

    fn occupied(&self, path: &Path, cause: &str) -> Error {
        let path = self.environment.path(path);
        Error::new(ErrorId::NotInstallable, cause)
            .about(path.display())
            .hint(format!(
                "move it away, and run the same command again: mv {0} {0}.old",
                path.display()
            ))
    }
}
