//! The takeover of a tree that an older release gave to the service's user (contract, section 5).
//!
//! A process of that user may have planted any file there. So both folders become root's first. Then each
//! of the agent's files is read as untrusted data, without following a link, and written again. Of
//! agent.toml only the identity stays. Settings that would lead root to another path or host are dropped
//! and listed.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use toml_edit::DocumentMut;
use zeroize::Zeroizing;

use crate::identity::{KEY_BYTES, KEY_FILE, NEXT_KEY_FILE};
use crate::paths::{ID_FILE, Paths};
use crate::state::{self, State};
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::escape::one_line;
use agent_core::flags::Flags;
use agent_core::scrub::record;
use agent_core::service::HEALTH_FILE;
use agent_core::settings::{Setting, config_path, table};
use agent_core::store::access::{Access, GROUP};
use agent_core::store::agent_toml::{KNOWN_KEYS, in_form_of};
use agent_core::store::atomic::{self, Owner};
use agent_core::store::{lock, names, passwd, safe_read, unreadable, unwritable};

/// Keys of agent.toml that hold the host's identity, and name no path and no URL.
const IDENTITY: [&str; 4] = ["agent_id", "agent_token", "tags", "role"];

/// Takes the tree over, if the service's user owns it and this process is root. Otherwise changes nothing.
///
/// # Errors
/// [`ErrorId::ForeignOwner`] when a process of the service's user still runs, or a path of the agent is
/// not a regular file; and files that cannot be read or written.
pub fn take_over(flags: &Flags, environment: &Environment) -> Result<()> {
    let Some(old) = Tree::of(flags, environment)? else {
        return Ok(());
    };
    for folder in [&old.paths.state_dir, old.paths.config_dir()] {
        environment.refuse_foreign_folder(folder.parent().unwrap_or(folder))?;
    }
    refuse_processes(old.service, environment)?;
    tracing::info!("taking over the files of user {GROUP}: they become root's");
    old.own_folders()?;
    old.rewrite_state()?;
    let hub = explicit(&table::HUB_URL, flags.hub_url.as_deref(), environment);
    if hub.is_none() {
        old.set_hub_dropped()?;
    }
    let dropped = old.rewrite_config(hub)?;
    if !dropped.is_empty() {
        tracing::warn!(
            "dropped from {}, since another user could write there: {}; to give them again: monsys-agent enrol --hub-url URL, with the options that this host needs",
            old.paths.config.display(),
            dropped.join(", ")
        );
    }
    Ok(())
}

/// Returns whether the service's user owns the tree, and this process is root.
///
/// # Errors
/// Paths that are not valid.
pub fn is_foreign(flags: &Flags, environment: &Environment) -> Result<bool> {
    Ok(Tree::of(flags, environment)?.is_some())
}

/// The files of an older release.
struct Tree {
    paths: Paths,
    access: Access,
    /// User id of the service's user.
    service: u32,
}

impl Tree {
    /// Returns the tree if the service's user owns any part of it, and this process is root.
    fn of(flags: &Flags, environment: &Environment) -> Result<Option<Self>> {
        let Some(service) = service_user(environment).filter(|_| Owner::ours().is_root()) else {
            return Ok(None);
        };
        let old = Self {
            paths: Paths {
                config: environment.path(config_path(flags, environment)?),
                state_dir: environment.resolved_path(state_dir(flags, environment)?),
            },
            access: environment.access(),
            service,
        };
        Ok(Some(old).filter(Self::is_foreign))
    }

    fn is_foreign(&self) -> bool {
        let folders = [self.paths.state_dir.as_path(), self.paths.config_dir()];
        let files = names(&self.paths.state_dir).unwrap_or_default();
        // Other files of that user stay, and do not start a takeover at each run.
        let files = files
            .iter()
            .filter(|name| is_known(&name.to_string_lossy()))
            .map(|name| self.paths.state_dir.join(name));
        let places = folders.iter().map(|folder| (*folder).to_owned());
        places
            .chain([self.paths.config.clone()])
            .chain(files)
            .any(|path| fs::symlink_metadata(path).is_ok_and(|there| there.uid() == self.service))
    }

    /// Makes both folders root's, so that no other user changes their content from then on.
    fn own_folders(&self) -> Result<()> {
        let access = self.access;
        for (folder, grant) in [
            (self.paths.state_dir.as_path(), access.shared_folder()),
            (self.paths.config_dir(), access.public_folder()),
        ] {
            match fs::symlink_metadata(folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Ok(there) if there.is_dir() && [0, self.service].contains(&there.uid()) => {
                    atomic::set_access(folder, grant)
                        .and_then(|()| atomic::remove_lists(folder))
                        .map_err(|error| unwritable(ErrorId::StateUnwritable, folder, &error))?;
                }
                Ok(_) => {
                    return Err(planted(
                        folder,
                        "it is not a folder of root or of that user",
                    ));
                }
                Err(error) => return Err(unreadable(folder, &error)),
            }
        }
        Ok(())
    }

    /// Writes the files of the identity again, and removes files that the agent can make again.
    fn rewrite_state(&self) -> Result<()> {
        let folder = &self.paths.state_dir;
        let present = match names(folder) {
            Ok(present) => present,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(folder, &error)),
        };
        for name in present {
            let name = name.to_string_lossy().into_owned();
            let path = folder.join(&name);
            let is_foreign = fs::symlink_metadata(&path).is_ok_and(|there| there.uid() != 0);
            let is_key = is_key(&name);
            match name.as_str() {
                _ if !is_foreign => {}
                // The lock and the health file are of no use while the service is stopped.
                lock::FILE | HEALTH_FILE if path.is_dir() => {
                    return Err(planted(&path, "it is a folder"));
                }
                lock::FILE | HEALTH_FILE => remove(&path)?,
                temporary if atomic::is_temporary(temporary) && !path.is_dir() => remove(&path)?,
                state::FILE => self.rewrite_state_file(&path)?,
                ID_FILE => self.rewrite(&path, |_| true)?,
                _ if is_key => self.rewrite(&path, |bytes| bytes.len() == KEY_BYTES)?,
                _ => tracing::warn!(
                    "{} is not the agent's own, and is left alone",
                    path.display()
                ),
            }
        }
        Ok(())
    }

    /// Writes state.json again without the record of the step, which only a step of root may write.
    /// Removes a broken file.
    fn rewrite_state_file(&self, path: &Path) -> Result<()> {
        let Some(bytes) = single_link(path)? else {
            return Ok(());
        };
        let Ok(state) = serde_json::from_slice::<State>(&bytes) else {
            tracing::warn!("removing {}, which is broken", path.display());
            return remove(path);
        };
        let state = State {
            step: None,
            ..state
        };
        state
            .save(&self.paths.state_dir, self.access)
            .map_err(|error| unwritable(ErrorId::StateUnwritable, path, &error))
    }

    /// Stores, before the URL is dropped, that the built-in default may not take its place.
    fn set_hub_dropped(&self) -> Result<()> {
        let folder = &self.paths.state_dir;
        if !folder.is_dir() {
            return Ok(());
        }
        let state = State {
            hub_dropped: true,
            ..State::load(folder)?.unwrap_or_default()
        };
        state
            .save(folder, self.access)
            .map_err(|error| unwritable(ErrorId::StateUnwritable, folder, &error))
    }

    /// Drops from agent.toml the keys that name a path or a host, except a hub that this run names. The
    /// dropped values stay as comments, for the operator. Returns the names of the keys.
    fn rewrite_config(&self, hub: Option<String>) -> Result<Vec<String>> {
        let path = &self.paths.config;
        if fs::symlink_metadata(path).is_ok_and(|there| there.uid() != self.service) {
            return Ok(Vec::new());
        }
        let Some(bytes) = single_link(path)? else {
            return Ok(Vec::new());
        };
        let broken = |cause: String| Error::new(ErrorId::ConfigBroken, cause).about(path.display());
        let text = std::str::from_utf8(&bytes).map_err(|_| broken("it is not UTF-8".into()))?;
        let mut document: DocumentMut = text
            .parse()
            .map_err(|error: toml_edit::TomlError| broken(error.message().to_owned()))?;
        let mut dropped = Vec::new();
        let mut comments = Zeroizing::new(String::new());
        for key in KNOWN_KEYS.iter().filter(|key| !IDENTITY.contains(key)) {
            let over = document
                .key(key)
                .and_then(|key| key.leaf_decor().prefix()?.as_str());
            let over = Zeroizing::new(over.unwrap_or_default().to_owned());
            if let Some(item) = document.remove(key) {
                dropped.push((*key).to_owned());
                // The lines above a key are a comment of the user.
                comments.push_str(&over);
                let value = Zeroizing::new(item.to_string());
                comments.extend(["# dropped: ", key, " = ", &one_line(value.trim()), "\n"]);
            }
        }
        if let Some(url) = hub {
            document.insert("hub_url", toml_edit::value(url));
            dropped.retain(|key| key != "hub_url");
        }
        let text = in_form_of(text, format!("{}{}", document, comments.as_str()));
        self.write(path, text.as_bytes())?;
        Ok(dropped)
    }

    /// Writes a file again if its content `fits`, and refuses any other content.
    fn rewrite(&self, path: &Path, fits: impl Fn(&[u8]) -> bool) -> Result<()> {
        match single_link(path)? {
            Some(bytes) if fits(&bytes) => self.write(path, &bytes),
            Some(_) => Err(planted(
                path,
                "the content is not that of the agent's own file",
            )),
            None => Ok(()),
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let grant = if path.ends_with(ID_FILE) {
            self.access.public()
        } else {
            self.access.shared()
        };
        atomic::write(path, bytes, grant.mode, grant.owner)
            .map_err(|error| unwritable(ErrorId::StateUnwritable, path, &error))
    }
}

/// Returns whether the agent writes files of this name in the state directory.
fn is_known(name: &str) -> bool {
    [lock::FILE, HEALTH_FILE, state::FILE, ID_FILE, record::FILE].contains(&name)
        || is_key(name)
        || atomic::is_temporary(name)
}

fn is_key(name: &str) -> bool {
    name == KEY_FILE || name.starts_with(NEXT_KEY_FILE)
}

fn remove(path: &Path) -> Result<()> {
    atomic::remove(path).map_err(|error| unwritable(ErrorId::StateUnwritable, path, &error))
}

/// Reads a regular file that has no other hard link. Returns `None` when there is no file.
fn single_link(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let is_plain = |there: &Metadata| there.is_file() && there.nlink() == 1;
    match fs::symlink_metadata(path) {
        Ok(there) if is_plain(&there) => {}
        Ok(_) => {
            return Err(planted(
                path,
                "it is a symbolic link, has several hard links, or is not a regular file",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path, &error)),
    }
    let bytes = safe_read::foreign(path).map_err(|error| unreadable(path, &error))?;
    Ok(Some(Zeroizing::new(bytes)))
}

/// Returns the error of a path that the service's user may have planted.
fn planted(path: &Path, cause: &str) -> Error {
    Error::new(
        ErrorId::ForeignOwner,
        format!("{cause}, and the user {GROUP} could write there"),
    )
    .about(path.display())
    .hint(format!(
        "inspect it, remove it, and run the same command again: rm -r '{}'",
        path.display()
    ))
}

/// Refuses a takeover while the service's user has processes: they could hold a file open, or write into a
/// folder that this process has just opened.
fn refuse_processes(service: u32, environment: &Environment) -> Result<()> {
    if !environment.is_live() {
        return Ok(());
    }
    let processes = names(&environment.kernel_path("/proc")).unwrap_or_default();
    let running: Vec<String> = processes
        .iter()
        .filter_map(|name| name.to_str().filter(|name| name.parse::<u32>().is_ok()))
        .filter(|pid| {
            let folder = environment.kernel_path(PathBuf::from("/proc").join(pid));
            fs::metadata(folder).is_ok_and(|process| process.uid() == service)
        })
        .map(str::to_owned)
        .collect();
    if running.is_empty() {
        return Ok(());
    }
    let pids = running.join(" ");
    Err(Error::new(
        ErrorId::ForeignOwner,
        format!("its files still belong to the user {GROUP}, who has processes: {pids}"),
    )
    .about("/var/lib/monsys")
    .hint(format!(
        "restart the service, which takes the files over when it starts: systemctl restart monsys-agent; if these processes still run after that: kill {pids}"
    )))
}

/// Returns the user id of the service's user, if the host has that user.
fn service_user(environment: &Environment) -> Option<u32> {
    passwd::find(&environment.resolved_path("/etc/passwd"), GROUP).map(|(uid, _)| uid)
}

/// Returns the state directory that this run names, or the default. A value in agent.toml does not count.
fn state_dir(flags: &Flags, environment: &Environment) -> Result<PathBuf> {
    let explicit = explicit(&table::STATE_DIR, flags.state_dir.as_deref(), environment);
    let path = explicit.unwrap_or_else(|| table::STATE_DIR.default.unwrap_or_default().to_owned());
    std::path::absolute(&path).map_err(|error| {
        Error::new(
            ErrorId::BadSetting,
            format!("it is not a valid path: {error}"),
        )
        .about(path)
    })
}

/// Returns the value of a setting from its flag or its environment variables.
fn explicit(
    setting: &'static Setting,
    flag: Option<&str>,
    environment: &Environment,
) -> Option<String> {
    let variables = || {
        setting
            .variables
            .iter()
            .find_map(|name| environment.env(name))
    };
    flag.filter(|flag| !flag.is_empty())
        .map(str::to_owned)
        .or_else(|| variables().map(|value| value.to_string_lossy().into_owned()))
}
