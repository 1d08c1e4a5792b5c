//! Taking over a tree that an older release gave to the service's user (contract, section 5).
//!
//! Whoever was that user may have planted anything there. So both folders become root's first; then
//! each file of ours is read as a stranger's data, without following a link, and written anew. Of
//! agent.toml the identity stays. What would lead root somewhere is dropped and listed.

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
use agent_core::store::agent_toml::KNOWN_KEYS;
use agent_core::store::atomic::{self, Owner};
use agent_core::store::{lock, names, passwd, safe_read, unreadable, unwritable};

/// Keys of agent.toml that say who the host is, and lead nowhere.
const IDENTITY: [&str; 4] = ["agent_id", "agent_token", "tags", "role"];

/// Takes the tree over, if the service's user owns it. Only root can; for anybody else nothing
/// happens.
///
/// # Errors
/// [`ErrorId::ForeignOwner`] when a process of the service's user still runs, or something else than
/// a file stands in a file's place; and what cannot be read or written.
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
    let hub = given(&table::HUB_URL, flags.hub_url.as_deref(), environment);
    if hub.is_none() {
        old.mark_hub_dropped()?;
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

/// Whether there is such a tree, and this is root.
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
    /// Number of the user who owned them.
    service: u32,
}

impl Tree {
    /// The tree, if the service's user owns any of it, and this is root.
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
        // Another file of that user's stays, and is no reason to begin again at each run.
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

    /// Makes both folders root's, so that nothing in them changes any more.
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
                        "it is not a folder of root's or of that user",
                    ));
                }
                Err(error) => return Err(unreadable(folder, &error)),
            }
        }
        Ok(())
    }

    /// Writes anew what makes the host itself, and removes what can be lost.
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
                // Nobody needs these once the service is stopped.
                lock::FILE | HEALTH_FILE if path.is_dir() => {
                    return Err(planted(&path, "it is a folder"));
                }
                lock::FILE | HEALTH_FILE => remove(&path)?,
                temporary if atomic::is_temporary(temporary) && !path.is_dir() => remove(&path)?,
                state::FILE => self.rewrite_memory(&path)?,
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

    /// Writes state.json anew without the step's verdict, which only a step of root's can give. A
    /// broken one is passed over anyway.
    fn rewrite_memory(&self, path: &Path) -> Result<()> {
        let Some(bytes) = only_name(path)? else {
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

    /// Writes down, before the URL goes, that no default may take its place.
    fn mark_hub_dropped(&self) -> Result<()> {
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

    /// Drops from agent.toml what leads somewhere, but for the hub that this run names. What is dropped
    /// stays as comments, for the operator. Returns the names of the keys.
    fn rewrite_config(&self, hub: Option<String>) -> Result<Vec<String>> {
        let path = &self.paths.config;
        if fs::symlink_metadata(path).is_ok_and(|there| there.uid() != self.service) {
            return Ok(Vec::new());
        }
        let Some(bytes) = only_name(path)? else {
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
            if let Some(item) = document.remove(key) {
                dropped.push((*key).to_owned());
                let value = Zeroizing::new(item.to_string());
                comments.extend(["# dropped: ", key, " = ", &one_line(value.trim()), "\n"]);
            }
        }
        if let Some(url) = hub {
            document.insert("hub_url", toml_edit::value(url));
            dropped.retain(|key| key != "hub_url");
        }
        let text = Zeroizing::new(format!("{}{}", document, comments.as_str()));
        self.write(path, text.as_bytes())?;
        Ok(dropped)
    }

    /// Writes a file anew if it `fits`; another one is refused.
    fn rewrite(&self, path: &Path, fits: impl Fn(&[u8]) -> bool) -> Result<()> {
        match only_name(path)? {
            Some(bytes) if fits(&bytes) => self.write(path, &bytes),
            Some(_) => Err(planted(
                path,
                "it does not hold what the agent writes there",
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

/// Whether a file of this name in the state directory is one of the agent's.
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

/// Bytes of a regular file that has no other name; none when there is no file.
fn only_name(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let is_plain = |there: &Metadata| there.is_file() && there.nlink() == 1;
    match fs::symlink_metadata(path) {
        Ok(there) if is_plain(&there) => {}
        Ok(_) => {
            return Err(planted(
                path,
                "it is a link, or not a regular file of one name",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path, &error)),
    }
    let bytes = safe_read::foreign(path).map_err(|error| unreadable(path, &error))?;
    Ok(Some(Zeroizing::new(bytes)))
}

fn planted(path: &Path, cause: &str) -> Error {
    Error::new(
        ErrorId::ForeignOwner,
        format!("{cause}, and the user {GROUP} could write there"),
    )
    .about(path.display())
    .hint(format!(
        "look at what it is, remove it, and run the same command again: rm -r '{}'",
        path.display()
    ))
}

/// The service's user could still hold a file open, or put one into a folder that is just opened.
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
        "stop the service, which runs what takes the files over at its next start: systemctl restart monsys-agent; what is left then: kill {pids}"
    )))
}

/// Number of the service's user, if the host has that user.
fn service_user(environment: &Environment) -> Option<u32> {
    passwd::find(&environment.resolved_path("/etc/passwd"), GROUP).map(|(uid, _)| uid)
}

/// The state directory that this run names, or the usual one: what agent.toml says does not count.
fn state_dir(flags: &Flags, environment: &Environment) -> Result<PathBuf> {
    let given = given(&table::STATE_DIR, flags.state_dir.as_deref(), environment);
    let path = given.unwrap_or_else(|| table::STATE_DIR.default.unwrap_or_default().to_owned());
    std::path::absolute(&path).map_err(|error| {
        Error::new(
            ErrorId::BadSetting,
            format!("it is not a valid path: {error}"),
        )
        .about(path)
    })
}

fn given(
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
