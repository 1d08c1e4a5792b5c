//! `agent.toml`: read as settings, written with the user's own keys, order and comments kept.

use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use serde::Deserialize;
use toml_edit::{Array, DocumentMut, Item, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::access::{Access, Grant};
use super::{atomic, open, trust, unreadable};
use crate::error::{Error, ErrorId, Result};
use crate::token::Secret;

/// No configuration is larger; what is, is not one.
const MAX_BYTES: u64 = 1024 * 1024;

/// The file as it was read.
#[derive(Clone)]
pub struct AgentToml {
    path: PathBuf,
    text: Zeroizing<String>,
    settings: FileSettings,
    /// The file that the text was read from; `None` when there was none.
    stamp: Option<Stamp>,
}

/// What changes when a file is edited or replaced: device, inode, size, and the times of change.
type Stamp = [i128; 5];

/// The keys that the agent knows. Others are the user's.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct FileSettings {
    /// The key `hub_url`.
    pub hub_url: Option<String>,
    /// The key `agent_id`.
    pub agent_id: Option<String>,
    agent_token: Option<FileSecret>,
    /// The key `tags`.
    pub tags: Option<Vec<String>>,
    /// The key `role`.
    pub role: Option<String>,
    /// The key `token_file`.
    pub token_file: Option<String>,
    /// The key `token_command`.
    pub token_command: Option<String>,
    /// The key `ca_file`.
    pub ca_file: Option<String>,
    /// The key `ca_pin`.
    pub ca_pin: Option<String>,
    /// The key `https_proxy`.
    pub https_proxy: Option<String>,
    /// The key `no_proxy`.
    pub no_proxy: Option<String>,
    /// The key `allow_http`.
    pub allow_http: Option<bool>,
    /// The key `state_dir`.
    pub state_dir: Option<String>,
    /// The key `host_hostname_file`.
    pub host_hostname_file: Option<String>,
    /// The key `host_os_release_file`.
    pub host_os_release_file: Option<String>,
    /// The key `wait`.
    pub wait: Option<String>,
    /// The key `splay`.
    pub splay: Option<String>,
    /// The key `scrub_cloud_init`.
    pub scrub_cloud_init: Option<String>,
}

/// Names of these keys.
pub const KNOWN_KEYS: [&str; 18] = [
    "hub_url",
    "agent_id",
    "agent_token",
    "tags",
    "role",
    "token_file",
    "token_command",
    "ca_file",
    "ca_pin",
    "https_proxy",
    "no_proxy",
    "allow_http",
    "state_dir",
    "host_hostname_file",
    "host_os_release_file",
    "wait",
    "splay",
    "scrub_cloud_init",
];

/// A secret in the file. It is parsed later, so that its fault can be told in our own words.
#[derive(Clone, Deserialize)]
struct FileSecret(secrecy::SecretString);

impl std::fmt::Debug for FileSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A value that the agent writes.
#[derive(Debug)]
pub enum Entry<'a> {
    /// A string.
    Text(String),
    /// A list of strings.
    List(&'a [String]),
    /// A yes or no.
    Flag(bool),
    /// A secret.
    Secret(&'a Secret),
    /// Nothing: a key that is there becomes empty, which is not given. Removing it would remove
    /// the user's comment with it.
    Nothing,
    /// No such key, unless the user's comment stands beside it: then it becomes empty.
    Gone,
}

impl AgentToml {
    /// Reads `path`. A file that is not there is an empty one.
    ///
    /// # Errors
    /// [`ErrorId::ConfigBroken`] when it is not TOML or a key has the wrong type;
    /// [`ErrorId::ConfigUnwritable`] when it is a directory or a link, so could not be replaced.
    pub fn load(path: &Path) -> Result<Self> {
        let (text, stamp) = read(path)?;
        let file = Self::of(path, text)?;
        Ok(Self { stamp, ..file })
    }

    /// Returns the file as it is now: read again only when somebody has edited it since.
    ///
    /// # Errors
    /// As [`AgentToml::load`].
    pub fn current(&self) -> Result<Self> {
        let now = match fs::symlink_metadata(&self.path) {
            Ok(metadata) => Some(stamp(&metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => return Self::load(&self.path),
        };
        if now == self.stamp {
            return Ok(self.clone());
        }
        Self::load(&self.path)
    }

    /// The file with this text.
    pub fn of(path: &Path, text: Zeroizing<String>) -> Result<Self> {
        let settings = toml::from_str(&text).map_err(|error| broken(path, &text, &error))?;
        Ok(Self {
            path: path.into(),
            text,
            settings,
            stamp: None,
        })
    }

    /// As if there were no file.
    #[must_use]
    pub fn absent(path: &Path) -> Self {
        Self {
            path: path.into(),
            text: Zeroizing::default(),
            settings: FileSettings::default(),
            stamp: None,
        }
    }

    /// The keys that the agent knows.
    #[must_use]
    pub fn settings(&self) -> &FileSettings {
        &self.settings
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The per-agent token, if the file holds one.
    ///
    /// # Errors
    /// [`ErrorId::ConfigBroken`] when it is none, without repeating it.
    pub fn agent_token(&self) -> Result<Option<Secret>> {
        use secrecy::ExposeSecret;
        let Some(FileSecret(text)) = &self.settings.agent_token else {
            return Ok(None);
        };
        match text.expose_secret().trim() {
            "" => Ok(None),
            token => Secret::per_agent(token).map(Some).map_err(|fault| {
                Error::new(ErrorId::ConfigBroken, format!("agent_token: {fault}"))
                    .about(self.path.display())
            }),
        }
    }

    /// The agent's id, if the file holds one.
    ///
    /// # Errors
    /// [`ErrorId::ConfigBroken`] when it is no UUID.
    pub fn agent_id(&self) -> Result<Option<Uuid>> {
        match self.settings.agent_id.as_deref().map(str::trim) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                Error::new(ErrorId::ConfigBroken, "agent_id is no UUID").about(self.path.display())
            }),
        }
    }

    /// Bytes that the file needs at most with a credential in it.
    #[must_use]
    pub fn room(&self) -> usize {
        self.text.len() + 16 * 1024
    }

    /// The text with these keys set: where they stand, with the comment beside them, or appended.
    ///
    /// # Errors
    /// [`ErrorId::ConfigBroken`]; not after a successful [`AgentToml::load`].
    pub fn with(&self, entries: &[(&'static str, Entry<'_>)]) -> Result<Zeroizing<String>> {
        let mut document: DocumentMut =
            self.text.parse().map_err(|error: toml_edit::TomlError| {
                Error::new(ErrorId::ConfigBroken, error.message().to_owned())
                    .about(self.path.display())
            })?;
        if self.text.is_empty() {
            document.decor_mut().set_prefix(
                "# Written by monsys-agent. Your own keys, order and comments are kept.\n",
            );
        }
        for (key, entry) in entries {
            let value: Value = match entry {
                Entry::Text(text) => text.as_str().into(),
                Entry::List(list) => list.iter().map(String::as_str).collect::<Array>().into(),
                Entry::Flag(flag) => (*flag).into(),
                Entry::Secret(secret) => secret.expose_secret().into(),
                Entry::Nothing if document.contains_key(key) => "".into(),
                Entry::Gone if has_comment(&document, key) => "".into(),
                Entry::Gone => {
                    document.remove(key);
                    continue;
                }
                Entry::Nothing => continue,
            };
            set(&mut document, key, value);
        }
        Ok(Zeroizing::new(document.to_string()))
    }

    /// Whether the file has just this text.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.text.as_str() == text
    }

    /// Replaces the file by `text`, which the service may read and nobody else.
    ///
    /// # Errors
    /// What the system says.
    pub fn replace(&self, text: &str, access: Access) -> io::Result<()> {
        let Grant { owner, mode } = access.shared();
        atomic::write(&self.path, text.as_bytes(), mode, owner)
    }
}

impl std::fmt::Debug for AgentToml {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentToml")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Sets a key where it stands, with the comment beside it, or appends it.
fn set(document: &mut DocumentMut, key: &str, mut value: Value) {
    if let Some(Item::Value(old)) = document.get_mut(key) {
        *value.decor_mut() = old.decor().clone();
        *old = value;
    } else {
        document.insert(key, Item::Value(value));
    }
}

/// Whether a comment stands over a key or behind its value.
fn has_comment(document: &DocumentMut, key: &str) -> bool {
    let Some((key, item)) = document.get_key_value(key) else {
        return false;
    };
    let over = key.leaf_decor().prefix();
    let behind = item.as_value().and_then(|value| value.decor().suffix());
    [over, behind]
        .into_iter()
        .flatten()
        .any(|text| text.as_str().is_none_or(|text| text.contains('#')))
}

fn stamp(metadata: &Metadata) -> Stamp {
    [
        metadata.dev().into(),
        metadata.ino().into(),
        metadata.len().into(),
        i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
        i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec()),
    ]
}

fn read(path: &Path) -> Result<(Zeroizing<String>, Option<Stamp>)> {
    let unwritable = |cause: String, hint: &str| {
        Err(Error::new(ErrorId::ConfigUnwritable, cause)
            .about(path.display())
            .hint(hint))
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((Zeroizing::default(), None));
        }
        Err(error) => {
            return Err(
                Error::new(ErrorId::ConfigUnwritable, error.to_string()).about(path.display())
            );
        }
        Ok(metadata) if metadata.is_symlink() => {
            let target = fs::read_link(path).unwrap_or_default();
            let hint = format!(
                "put a file in its place, or name the real one: --config {}",
                target.display()
            );
            return unwritable(
                "it is a symbolic link, which an atomic write would replace".into(),
                &hint,
            );
        }
        Ok(metadata) if metadata.is_dir() => {
            return unwritable(
                "it is a directory".into(),
                "move the directory away, or choose another path with --config PATH",
            );
        }
        Ok(metadata) if !metadata.is_file() => {
            return unwritable(
                "it is not a regular file".into(),
                "choose another path with --config PATH",
            );
        }
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    // What is there may have become a pipe or a link since.
    let careful = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let read = open(path, careful, Mode::empty()).and_then(|file| {
        let metadata = file.metadata()?;
        trust::opened(path, &metadata)?;
        let length = file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        Ok((length, stamp(&metadata)))
    });
    match read {
        Ok((length, _)) if length as u64 > MAX_BYTES => {
            Err(Error::new(ErrorId::ConfigBroken, "it is larger than 1 MiB").about(path.display()))
        }
        Ok((_, stamp)) => match String::from_utf8(bytes) {
            Ok(text) => Ok((Zeroizing::new(text), Some(stamp))),
            Err(_) => {
                Err(Error::new(ErrorId::ConfigBroken, "it is not UTF-8").about(path.display()))
            }
        },
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => unwritable(
            "it is not ours to read or write".into(),
            "run as root (sudo), or as the user that owns it",
        ),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// Line and fault, never the text itself: it may hold a secret.
fn broken(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let line = error.span().map(|span| {
        let before = text.get(..span.start).unwrap_or_default();
        before.matches('\n').count() + 1
    });
    let message = error.message().lines().next().unwrap_or_default();
    let cause = match line {
        Some(line) => format!("line {line}: {message}"),
        None => message.to_owned(),
    };
    Error::new(ErrorId::ConfigBroken, cause).about(path.display())
}

#[cfg(test)]
mod tests;
