//! An env file with lines `KEY=value`: read as systemd (systemd.exec(5)) and a shell read it, and changed
//! in place. All other bytes stay the same: other lines, comments, order, line ends.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::access::{Access, Grant};
use super::proof::{self, Target};
use super::{atomic, forbidden, safe_read};
use crate::error::{Error, ErrorId, Result};
use crate::quoted::unquote;

/// The shortest secret that is removed from other lines, in bytes.
const SHORTEST_SECRET: usize = 12;
/// The text in the place of a secret in an assignment. The line stays a valid assignment.
const CONSUMED: &[u8] = b"_consumed_";
/// The text in the place of a secret in another line. The line does not become an assignment.
const CONSUMED_IN_TEXT: &[u8] = b"[consumed]";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An env file as it was read.
pub struct EnvFile {
    path: PathBuf,
    /// `None` when the file does not exist.
    text: Option<Zeroizing<Vec<u8>>>,
    access: Access,
}

impl EnvFile {
    /// Reads `target`, the file to which the links of `path` lead. A later write replaces `path`. A
    /// missing file counts as empty.
    ///
    /// # Errors
    /// [`ErrorId::EnvFileUnwritable`] when the file is not a regular file, [`ErrorId::ConfigUnreadable`] when this
    /// user may not read it.
    pub fn load(path: &Path, target: &Path, access: Access) -> Result<Self> {
        let text = match safe_read::bytes(target) {
            Ok(text) => Some(Zeroizing::new(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(forbidden(path));
            }
            Err(error) => return Err(unwritable(path, &error)),
        };
        Ok(Self {
            path: path.into(),
            text,
            access,
        })
    }

    /// Returns the env file of a path where no file exists.
    #[must_use]
    pub fn absent(path: &Path, access: Access) -> Self {
        Self {
            path: path.into(),
            text: None,
            access,
        }
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the bytes of the file.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.text.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Returns the value of `key`. An empty value counts as not set; the last of several values wins.
    ///
    /// # Errors
    /// [`ErrorId::EnvFileBroken`] when the value has an unclosed quote, or is not UTF-8.
    pub fn get(&self, key: &str) -> Result<Option<Zeroizing<String>>> {
        value(self.text(), key).map_err(|cause| {
            Error::new(ErrorId::EnvFileBroken, format!("{key}: {cause}")).about(self.path.display())
        })
    }

    /// Proves that the file can be replaced by a file with `more` bytes. Makes its folder, and replaces
    /// the file with its own content by the steps of [`EnvFile::replace`]. `mounts` is the path of
    /// [`proof::MOUNTS`].
    ///
    /// # Errors
    /// [`ErrorId::EnvFileUnwritable`].
    pub fn prove(&self, more: usize, mounts: &Path) -> Result<()> {
        let folder = self.folder();
        let grant = self.access.public_folder();
        atomic::make_folder(folder, grant).map_err(|(path, error)| unwritable(&path, &error))?;
        self.refuse_link()?;
        proof::prove(&[self.target(more)], None, mounts)?;
        match &self.text {
            None => Ok(()),
            Some(text) => self.replace(text),
        }
    }

    /// Returns the file as the target of a write that adds `more` bytes.
    #[must_use]
    pub fn target(&self, more: usize) -> Target {
        Target {
            path: self.path.clone(),
            grant: self.access.shared(),
            room: self.text().len() + more,
            error_id: ErrorId::EnvFileUnwritable,
        }
    }

    /// Replaces the file with `text`. Only its owner and the service may read it.
    ///
    /// # Errors
    /// [`ErrorId::EnvFileUnwritable`]; the file is then as it was.
    pub fn replace(&self, text: &[u8]) -> Result<()> {
        self.refuse_link()?;
        let Grant { owner, mode } = self.access.shared();
        atomic::write(&self.path, text, mode, owner).map_err(|error| unwritable(&self.path, &error))
    }

    /// Refuses a symbolic link, also one that leads to no file.
    fn refuse_link(&self) -> Result<()> {
        if self.path.is_symlink() {
            let cause = "it is a symbolic link, which an atomic write would replace with a file";
            return Err(Error::new(ErrorId::EnvFileUnwritable, cause)
                .about(self.path.display())
                .hint("replace the link with a regular file, or name its target with --config PATH or CONFIG_FILE"));
        }
        Ok(())
    }

    /// Returns the folder of the file.
    #[must_use]
    pub fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        }
    }
}

impl std::fmt::Debug for EnvFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnvFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    super::unwritable(ErrorId::EnvFileUnwritable, path, error)
}

/// Returns the value of `key` in `text`, without its quotes. The last of several values wins; an empty
/// value, or one of blanks, is `None`.
///
/// # Errors
/// The cause, which never repeats the value.
pub fn value(text: &[u8], key: &str) -> Result<Option<Zeroizing<String>>, &'static str> {
    let Some(assignment) = lines(text)
        .filter_map(|line| line.assignment())
        .filter(|assignment| assignment.key == key.as_bytes())
        .last()
    else {
        return Ok(None);
    };
    let raw = joined(assignment.value);
    let raw = std::str::from_utf8(&raw).map_err(|_| "the value is not UTF-8")?;
    let value = unquote(raw.trim()).map(Zeroizing::new);
    let value = value.ok_or("the value has an unclosed quote")?;
    Ok((!value.trim().is_empty()).then_some(value))
}

/// Returns the text with `key` set: in each line that sets `key`, or in a new line at the end.
#[must_use]
pub fn with_value(text: &[u8], key: &str, value: &str) -> Zeroizing<Vec<u8>> {
    let value = quoted(value);
    let places = lines(text).filter(|line| line.sets(key)).count();
    let room = (places + 1) * (value.len() + key.len() + 8);
    // The buffer never grows, so that no copy of a secret stays in memory.
    let mut changed = Zeroizing::new(Vec::with_capacity(text.len() + room));
    for line in lines(text) {
        match line.assignment().filter(|it| it.key == key.as_bytes()) {
            Some(assignment) => {
                let before = line.content.len() - assignment.value.len();
                changed.extend_from_slice(&line.content[..before]);
                changed.extend_from_slice(value.as_bytes());
            }
            None => changed.extend_from_slice(line.content),
        }
        changed.extend_from_slice(line.end);
    }
    if places == 0 {
        let first = lines(text).next().map_or(&b""[..], |line| line.end);
        let end: &[u8] = if first == b"\r\n" { b"\r\n" } else { b"\n" };
        if !changed.is_empty() && !changed.ends_with(b"\n") {
            changed.extend_from_slice(end);
        }
        // After a backslash at the end, the appended text would belong to the same line.
        let is_open = lines(&changed)
            .last()
            .is_some_and(|line| line.is_continued());
        if is_open {
            changed.extend_from_slice(end);
        }
        for part in [key.as_bytes(), b"=", value.as_bytes(), end] {
            changed.extend_from_slice(part);
        }
    }
    changed
}

/// Returns the text without `key` and without `secret`. `note` replaces each line that sets `key`; the
/// secret is also removed from comments and from values of other keys, except the keys in `kept`.
#[must_use]
pub fn without_secret(
    text: &[u8],
    key: &str,
    note: &str,
    secret: &str,
    kept: &[&str],
) -> Zeroizing<Vec<u8>> {
    let mut changed = Zeroizing::new(Vec::with_capacity(2 * text.len() + note.len()));
    for line in lines(text) {
        if line.sets(key) {
            if line.content.starts_with(BYTE_ORDER_MARK) {
                changed.extend_from_slice(BYTE_ORDER_MARK);
            }
            changed.extend_from_slice(note.as_bytes());
        } else if secret.len() < SHORTEST_SECRET || kept.iter().any(|key| line.sets(key)) {
            changed.extend_from_slice(line.content);
        } else {
            let instead = match line.assignment() {
                Some(_) => CONSUMED,
                None => CONSUMED_IN_TEXT,
            };
            copy_without(&mut changed, line.content, secret.as_bytes(), instead);
        }
        changed.extend_from_slice(line.end);
    }
    changed
}

fn copy_without(copy: &mut Vec<u8>, text: &[u8], secret: &[u8], instead: &[u8]) {
    let mut rest = text;
    while let Some(at) = find(rest, secret) {
        copy.extend_from_slice(&rest[..at]);
        copy.extend_from_slice(instead);
        rest = &rest[at + secret.len()..];
    }
    copy.extend_from_slice(rest);
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// A line, with the lines that a backslash at the end of an assignment joins to it.
struct Line<'a> {
    content: &'a [u8],
    /// `\n`, `\r\n`, or nothing at the end of the file.
    end: &'a [u8],
}

/// An assignment `KEY=value`, which may follow spaces and `export`.
struct Assignment<'a> {
    key: &'a [u8],
    /// All bytes after the equals sign.
    value: &'a [u8],
}

fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut line = split(rest, 0);
        while line.is_continued() && line.length() < rest.len() {
            line = split(rest, line.length());
        }
        rest = &rest[line.length()..];
        Some(line)
    })
}

/// Returns the beginning of `text`, up to the first line end at or after `from`.
fn split(text: &[u8], from: usize) -> Line<'_> {
    let newline = text[from..].iter().position(|byte| *byte == b'\n');
    let (content, end) = match newline {
        Some(at) if at > 0 && text[from + at - 1] == b'\r' => (from + at - 1, from + at + 1),
        Some(at) => (from + at, from + at + 1),
        None => (text.len(), text.len()),
    };
    Line {
        content: &text[..content],
        end: &text[content..end],
    }
}

impl<'a> Line<'a> {
    fn length(&self) -> usize {
        self.content.len() + self.end.len()
    }

    fn is_continued(&self) -> bool {
        let backslashes = self.content.iter().rev().take_while(|byte| **byte == b'\\');
        backslashes.count() % 2 == 1 && self.assignment().is_some()
    }

    fn sets(&self, key: &str) -> bool {
        self.assignment()
            .is_some_and(|assignment| assignment.key == key.as_bytes())
    }

    fn assignment(&self) -> Option<Assignment<'a>> {
        let content = self.content;
        let content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content);
        let equals = content.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&content[..equals], &content[equals + 1..]);
        let name = name.trim_ascii();
        let key = match name.strip_prefix(b"export") {
            Some(rest) if rest.starts_with(b" ") || rest.starts_with(b"\t") => rest.trim_ascii(),
            _ => name,
        };
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        (!key.is_empty() && key.iter().all(is_name)).then_some(Assignment { key, value })
    }
}

/// Returns a value without the line ends that follow a backslash.
fn joined(value: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut joined = Zeroizing::new(Vec::with_capacity(value.len()));
    let mut rest = value;
    while let Some(newline) = rest.iter().position(|byte| *byte == b'\n') {
        let piece = &rest[..newline];
        let piece = piece.strip_suffix(b"\r").unwrap_or(piece);
        joined.extend_from_slice(piece.strip_suffix(b"\\").unwrap_or(piece));
        rest = &rest[newline + 1..];
    }
    joined.extend_from_slice(rest);
    joined
}

/// Returns a value in the form that every reader of env files accepts: without quotes if possible.
fn quoted(value: &str) -> Zeroizing<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.,:/+=@%~^".contains(&byte);
    if !value.is_empty() && value.bytes().all(is_plain) {
        return Zeroizing::new(value.to_owned());
    }
    let mut quoted = Zeroizing::new(String::with_capacity(2 * value.len() + 2));
    if !value.contains('\'') {
        quoted.push('\'');
        quoted.push_str(value);
        quoted.push('\'');
        return quoted;
    }
    quoted.push('"');
    for character in value.chars() {
        if matches!(character, '"' | '\\' | '$' | '`') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
