//! The plan: every change that the host needs, found by looking and without changing anything.

use std::fs;
use std::io::ErrorKind::NotFound;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::change::{Change, PutFile, There, sha256};
use super::inspect::{
    ca_for_service, is_left_over, on_host, owner_of_new, parent, shares, takes_programs,
};
use super::receipt::{self, Receipt};
use super::service::Manager;
use super::user::{self, USER};
use super::{NotDone, Options, unwritable};
use crate::dialects;
use agent_core::ca_copy::CA_COPY;
use agent_core::enrolment::Dialect;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::settings::table::DIALECT;
use agent_core::store::unreadable;

/// Folders where the binary may go, one a line: the first that can be written and run from. None of
/// them is in the service's own folders, so that the service cannot replace what root runs. The
/// Ansible role looks for the program by the same file.
const BIN_FOLDERS: &str = include_str!("../../ansible/roles/monsys_agent/files/bin_folders");
const BIN_NAME: &str = "monsys-agent";

/// What the host needs.
pub(super) struct Plan {
    /// Where the binary goes.
    pub(super) binary: PathBuf,
    /// What has to be done before the enrolment.
    pub(super) before: Vec<Change>,
    /// What has to be done after it.
    pub(super) after: Vec<Change>,
    /// What starts services here.
    pub(super) manager: Option<Manager>,
    /// What is not done on this host.
    pub(super) not_done: Vec<NotDone>,
    /// What the enrolment is to be told.
    pub(super) flags: Flags,
}

impl Plan {
    /// Looks at the host.
    ///
    /// # Errors
    /// [`ErrorId::NotInstallable`] when something else stands where a file has to go, or no folder
    /// takes the binary; [`ErrorId::Unreadable`].
    pub(super) fn of(
        options: &Options,
        host: &dyn Dialect,
        receipt: &Receipt,
        made: &[PathBuf],
        environment: &Environment,
    ) -> Result<Self> {
        let manager = Manager::of(environment);
        let mut sketch = Sketch {
            environment,
            receipt,
            made,
            changes: Vec::new(),
        };
        let binary = sketch.binary()?;
        let mut flags = options.flags.clone();
        let mut not_done = Vec::new();

        // The receipt comes first, so its folder does.
        sketch.folder(Path::new(receipt::FOLDER), 0o700)?;
        let settings = host.settings();
        for folder in host.folders() {
            sketch.folder(&on_host(&folder.path, environment), folder.grant.mode)?;
        }
        let config_dir = parent(&settings.config_path);
        if let Some(manager) = manager {
            if user::find(environment).is_none() && environment.is_live() {
                sketch.changes.push(Change::MakeUser);
            }
            if user::find(environment).is_some() || environment.is_live() {
                let is_made =
                    |change: &Change| made.contains(&environment.resolved_path(change.path()));
                let shares = shares(host, sketch.receipt, environment);
                sketch
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
                    cause: format!("{} does not run here", manager.name()),
                    hint: "nothing: it starts at the next boot".into(),
                });
            }
        } else {
            not_done.push(NotDone {
                what: "the service".into(),
                cause: "this host has neither systemd nor OpenRC".into(),
                hint: format!(
                    "have what starts services here run: {} run",
                    binary.display()
                ),
            });
        }
        if let Some(ca) = ca_for_service(settings, environment)? {
            let copy = config_dir.join(CA_COPY);
            sketch.file(&copy, ca, 0o644)?;
            flags.ca_file = Some(environment.path(&copy).to_string_lossy().into_owned());
        }
        let told = told(options, host, environment)?;
        if manager == Some(Manager::OpenRc) && !told.is_empty() {
            not_done.push(not_told(&told));
        }
        let program = environment.executable();
        let bytes = fs::read(program).map_err(|error| unreadable(program, &error))?;
        sketch.file(&binary, bytes, 0o755)?;
        for file in manager
            .iter()
            .flat_map(|manager| manager.files(&binary, settings, options.ephemeral, &told))
        {
            sketch.file(&file.path, file.text.into_bytes(), file.mode)?;
        }
        if options.ephemeral && manager != Some(Manager::Systemd) {
            not_done.push(NotDone {
                what: "--ephemeral".into(),
                cause: "only systemd tells a power-off from a reboot".into(),
                hint: "run `monsys-agent unenrol` where this host is taken away".into(),
            });
        }
        let enabling = sketch.changes.len();
        if let Some(manager) = manager {
            let (path, target) = manager.enabled();
            sketch.link(Path::new(path), Path::new(target))?;
        }
        let mut before = sketch.changes;
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

/// Folders where the binary may be.
pub(super) fn folders() -> impl Iterator<Item = &'static str> {
    BIN_FOLDERS.lines()
}

impl Plan {
    /// The files to put.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.before.iter().filter_map(|change| match change {
            Change::PutFile(file) => Some(file.path.as_path()),
            _ => None,
        })
    }
}

/// What the service is told in its environment, to be the one of the system that is meant.
fn told(
    options: &Options,
    host: &dyn Dialect,
    environment: &Environment,
) -> Result<Vec<(&'static str, String)>> {
    let dialect = dialects::select(&options.flags, environment)?;
    if dialects::is_default(dialect) {
        return Ok(Vec::new());
    }
    let mut told = vec![(DIALECT.variables[0], dialect.name.to_owned())];
    told.extend(host.service_environment());
    Ok(told)
}

/// Only systemd is told by a file of its own.
fn not_told(told: &[(&str, String)]) -> NotDone {
    let variables: Vec<String> = told
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    NotDone {
        what: "the service's environment".into(),
        cause: "OpenRC reads it from a file that is yours".into(),
        hint: format!(
            "add to /etc/conf.d/monsys-agent, and restart the service: export {}",
            variables.join(" ")
        ),
    }
}

/// A plan that is being made.
struct Sketch<'a> {
    environment: &'a Environment,
    receipt: &'a Receipt,
    /// Folders that this run has made for its lock: they count as missing.
    made: &'a [PathBuf],
    changes: Vec<Change>,
}

impl Sketch<'_> {
    /// Where the binary goes: where it was put before, or the first folder that takes it.
    fn binary(&self) -> Result<PathBuf> {
        let places = || {
            BIN_FOLDERS
                .lines()
                .map(|folder| Path::new(folder).join(BIN_NAME))
        };
        if let Some(known) = places().find(|path| self.receipt.file(path).is_some()) {
            return Ok(known);
        }
        places()
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

    /// Plans the folder, and those above it, unless they are there.
    fn folder(&mut self, path: &Path, mode: u32) -> Result<()> {
        let on_disk = self.environment.resolved_path(path);
        let is_of_receipt = path == Path::new(receipt::FOLDER);
        // A link below `--root` may lead to folders that are yet to be made.
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
        let is_left_over = is_of_receipt && self.receipt.done.is_empty() && is_left_over(&on_disk);
        match fs::metadata(&on_disk) {
            Ok(metadata) if metadata.is_dir() && self.made.contains(&on_disk) => {
                self.folder(parent(path), 0o755)?;
                let path = path.to_owned();
                self.changes.push(Change::MakeFolder { path, mode });
                Ok(())
            }
            Ok(metadata) if metadata.is_dir() && !is_left_over => Ok(()),
            Ok(metadata) if metadata.is_dir() => {
                let path = path.to_owned();
                self.changes.push(Change::MakeFolder { path, mode });
                Ok(())
            }
            Ok(_) => Err(self.in_the_way(path, "it is not a folder")),
            Err(error) if error.kind() == NotFound && path != Path::new("/") => {
                self.folder(parent(path), 0o755)?;
                let path = path.to_owned();
                self.changes.push(Change::MakeFolder { path, mode });
                Ok(())
            }
            Err(error) => Err(unwritable(&on_disk, &error)),
        }
    }

    /// Plans the file unless it is there, byte for byte.
    fn file(&mut self, path: &Path, bytes: Vec<u8>, mode: u32) -> Result<()> {
        self.folder(parent(path), 0o755)?;
        let on_disk = self.environment.path(path);
        let there = match fs::symlink_metadata(&on_disk) {
            Err(error) if error.kind() == NotFound => There::Nothing,
            Err(error) => return Err(unwritable(&on_disk, &error)),
            Ok(metadata) if !metadata.is_file() => {
                return Err(self.in_the_way(path, "it is not a regular file"));
            }
            Ok(metadata) => {
                let old = fs::read(&on_disk).map_err(|error| unreadable(&on_disk, &error))?;
                let is_owned = (metadata.uid(), metadata.gid()) == owner_of_new().ids();
                let has_mode = metadata.permissions().mode() & 0o7777 == mode;
                if old == bytes && is_owned && has_mode {
                    return Ok(());
                }
                match self.receipt.file(path) {
                    Some((sums, _)) if sums.contains(&sha256(&old)) => There::Ours,
                    // A run was killed before it gave somebody else's file its second name.
                    Some((_, Some(kept))) if !self.environment.path(kept).exists() => {
                        There::Foreign
                    }
                    Some(_) => There::Changed,
                    None => There::Foreign,
                }
            }
        };
        self.changes.push(Change::PutFile(PutFile {
            path: path.to_owned(),
            bytes,
            mode,
            there,
        }));
        Ok(())
    }

    /// Plans the link unless it is there.
    fn link(&mut self, path: &Path, target: &Path) -> Result<()> {
        self.folder(parent(path), 0o755)?;
        let on_disk = self.environment.path(path);
        match fs::read_link(&on_disk) {
            Ok(known) if known == target => Ok(()),
            Err(error) if error.kind() == NotFound => {
                let (path, target) = (path.to_owned(), target.to_owned());
                self.changes.push(Change::Link { path, target });
                Ok(())
            }
            Ok(_) => Err(self.in_the_way(path, "it is a link to something else")),
            Err(_) => Err(self.in_the_way(path, "it is not a symbolic link")),
        }
    }

    fn in_the_way(&self, path: &Path, cause: &str) -> Error {
        let path = self.environment.path(path);
        Error::new(ErrorId::NotInstallable, cause)
            .about(path.display())
            .hint(format!(
                "move it away, and run the same command again: mv {0} {0}.old",
                path.display()
            ))
    }
}
