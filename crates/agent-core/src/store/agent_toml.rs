//! `agent.toml`: reads the settings, and writes keys without a change to the user's own keys, order and
//! comments.

mod keys;

use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use toml_edit::{Array, Document, DocumentMut, Item, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use keys::WrongType;
pub use keys::{FileSettings, KNOWN_KEYS};

use super::access::{Access, Grant};
use super::{atomic, forbidden, open, trust, unreadable};
use crate::error::{Error, ErrorId, Result};
use crate::token::Secret;

/// The largest accepted file, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// The byte order mark of UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// `agent.toml` as it was read.
#[derive(Clone)]
pub struct AgentToml {
    path: PathBuf,
    text: Zeroizing<String>,
    settings: FileSettings,
    /// The version of the file that was read; `None` when there was no file.
    stamp: Option<Stamp>,
}

/// The version of a file: device, inode, size, and the times of change. An edit or a replacement changes
/// one of them.
type Stamp = [i128; 5];

/// A value that the agent writes.
#[derive(Debug)]
pub enum Entry<'a> {
    /// A string.
    Text(String),
    /// A list of strings.
    List(&'a [String]),
    /// A boolean.
    Flag(bool),
    /// A secret.
    Secret(&'a Secret),
    /// No value: an existing key becomes empty, which counts as not set. A removal would remove the
    /// user's comment too.
    Nothing,
    /// No key. A key with a comment of the user becomes empty instead.
    Gone,
}

impl AgentToml {
    /// Reads `path`. A missing file counts as empty.
    ///
    /// # Errors
    /// [`ErrorId::ConfigBroken`] when the file is not TOML or a key has the wrong type;
    /// [`ErrorId::ConfigUnwritable`] for a directory or a symbolic link, which cannot be replaced;
    /// [`ErrorId::ConfigUnreadable`] for a user without the permission to read it.
    pub fn load(path: &Path) -> Result<Self> {
        let (text, stamp) = read(path)?;
        let file = Self::of(path, text)?;
        Ok(Self { stamp, ..file })
    }

    /// Returns the file as it is now. It is read again only if it has changed since.
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

    /// Parses this text as the file at `path`.
    pub fn of(path: &Path, text: Zeroizing<String>) -> Result<Self> {
        let table = Document::parse(text.as_str())
            .map_err(|error| broken(path, &text, error.message(), error.span()))?
            .into_table();
        let settings = FileSettings::take(table)
            .map_err(|WrongType { message, span }| broken(path, &text, &message, span))?;
        Ok(Self {
            path: path.into(),
            text,
            settings,
            stamp: None,
        })
    }

    /// Returns the settings of a missing file.
    #[must_use]
    pub fn absent(path: &Path) -> Self {
        Self {
            path: path.into(),
            text: Zeroizing::default(),
            settings: FileSettings::default(),
            stamp: None,
        }
    }

    /// Returns the keys that the agent knows.
    #[must_use]
    pub fn settings(&self) -> &FileSettings {
        &self.settings
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the per-agent token, if the file has one.
    ///
    /// # Errors
    /// [`ErrorId::ConfigBroken`] for a value that is not a per-agent token. The error never repeats it.
    pub fn agent_token(&self) -> Result<Option<Secret>> {
        use secrecy::ExposeSecret;
        let Some(text) = &self.settings.agent_token else {
            return Ok(None);
        };
        match text.expose_secret().trim() {
            "" => Ok(None),
            token => Secret::per_agent(token).map(Some).map_err(|cause| {
                Error::new(ErrorId::ConfigBroken, format!("`agent_token`: {cause}"))
                    .about(self.path.display())
            }),
        }
    }

    /// Returns the agent's id, if the file has one.
    ///
    /// # Errors
    /// [`ErrorId::ConfigBroken`] when the id is not a UUID.
    pub fn agent_id(&self) -> Result<Option<Uuid>> {
        match self.settings.agent_id.as_deref().map(str::trim) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                Error::new(ErrorId::ConfigBroken, "`agent_id` is not a UUID")
                    .about(self.path.display())
            }),
        }
    }

    /// Returns the largest size of the file with a credential, in bytes.
    #[must_use]
    pub fn room(&self) -> usize {
        self.text.len() + 16 * 1024
    }

    /// Returns the text with these keys set. An existing key stays in its place, with its comment; a new
    /// key is appended.
    ///
    /// # Errors
    /// [`ErrorId::ConfigBroken`]; impossible after a successful [`AgentToml::load`].
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
        Ok(in_form_of(&self.text, document.to_string()))
    }

    /// Returns true when the file has exactly this text.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.text.as_str() == text
    }

    /// Replaces the file with `text`. Only its owner and the service may read it.
    ///
    /// # Errors
    /// The system's error.
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

/// Returns the text with the byte order mark and the line ends of `old`, which editors on other systems
/// write.
#[must_use]
pub fn in_form_of(old: &str, text: String) -> Zeroizing<String> {
    let text = Zeroizing::new(text);
    let has_mark = old.starts_with(BYTE_ORDER_MARK);
    let ends = old.matches('\n').count();
    let is_crlf = ends > 0 && ends == old.matches("\r\n").count();
    if !has_mark && !is_crlf {
        return text;
    }
    let mut own = Zeroizing::new(String::with_capacity(2 * text.len()));
    if has_mark {
        own.push(BYTE_ORDER_MARK);
    }
    for line in text
        .trim_start_matches(BYTE_ORDER_MARK)
        .split_inclusive('\n')
    {
        match line.strip_suffix('\n') {
            Some(line) if is_crlf && !line.ends_with('\r') => {
                own.push_str(line);
                own.push_str("\r\n");
            }
            _ => own.push_str(line),
        }
    }
    own
}

/// Sets a key in its place, with its comment, or appends it.
fn set(document: &mut DocumentMut, key: &str, mut value: Value) {
    if let Some(Item::Value(old)) = document.get_mut(key) {
        *value.decor_mut() = old.decor().clone();
        *old = value;
    } else {
        document.insert(key, Item::Value(value));
    }
}

/// Returns true for a key with a comment above it or behind its value.
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
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(forbidden(path));
        }
        Err(error) => {
            return Err(
                Error::new(ErrorId::ConfigUnwritable, error.to_string()).about(path.display())
            );
        }
        Ok(metadata) if metadata.is_symlink() => {
            let target = fs::read_link(path).unwrap_or_default();
            let hint = format!(
                "replace the link with a regular file, or name its target: --config {}",
                target.display()
            );
            return unwritable(
                "it is a symbolic link, which an atomic write would replace with a file".into(),
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
    // The path may have become a pipe or a link since the check.
    let careful = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let read = open(path, careful, Mode::empty()).and_then(|file| {
        let metadata = file.metadata()?;
        trust::opened(path, &metadata)?;
        let length = file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        Ok((length, stamp(&metadata)))
    });
    match read {
        Ok((length, _)) if length as u64 > MAX_BYTES => Err(Error::new(
            ErrorId::ConfigBroken,
            "the file is larger than 1 MiB",
        )
        .about(path.display())),
        Ok((_, stamp)) => {
            match String::from_utf8(bytes) {
                Ok(text) => Ok((Zeroizing::new(text), Some(stamp))),
                Err(_) => Err(Error::new(ErrorId::ConfigBroken, "the file is not UTF-8")
                    .about(path.display())),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(forbidden(path)),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// Returns the error with the line and the cause, but never the text, which may contain a secret.
fn broken(path: &Path, text: &str, message: &str, span: Option<Range<usize>>) -> Error {
    let message = message.lines().next().unwrap_or_default();
    let cause = match span {
        Some(span) => {
            let before = text.get(..span.start).unwrap_or_default();
            format!("line {}: {message}", before.matches('\n').count() + 1)
        }
        None => message.to_owned(),
    };
    Error::new(ErrorId::ConfigBroken, cause).about(path.display())
}

#[cfg(test)]
mod tests;
