//! Whether an enrolment token still lies in what cloud-init keeps of a host's user data.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Check;
use crate::token::Token;
use crate::world::World;

/// Where cloud-init keeps user data, scripts made of it, and its logs.
const FOLDERS: [&str; 2] = ["/var/lib/cloud", "/run/cloud-init"];
const LOGS: [&str; 2] = ["/var/log/cloud-init.log", "/var/log/cloud-init-output.log"];
/// Read at once.
const CHUNK: usize = 64 * 1024;
/// Deeper than any of cloud-init's folders is.
const DEPTH: usize = 8;

/// Looks for the token that was given, or for anything that begins like one.
pub(super) fn examine(token: Option<&Token>, world: &World) -> Check {
    let name = "cloud-init";
    let needle = match token {
        Some(Token::Enrolment(secret)) => secret.expose_secret(),
        _ => "enrl_",
    };
    let mut files = Vec::new();
    for folder in FOLDERS {
        walk(&world.path(folder), DEPTH, &mut files);
    }
    files.extend(LOGS.map(|log| world.path(log)));
    let (mut holding, mut unread) = (Vec::new(), Vec::new());
    for path in &files {
        match holds(path, needle.as_bytes()) {
            Ok(true) => holding.push(path.display().to_string()),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => unread.push(path.display().to_string()),
        }
    }
    if !holding.is_empty() {
        return Check::warning(
            name,
            format!("an enrolment token can be read in {}", holding.join(", ")),
            format!(
                "after the enrolment: shred -u {}; better: give the token by --token-command, so that user data holds none",
                holding.join(" ")
            ),
        );
    }
    if !unread.is_empty() {
        return Check::warning(
            name,
            format!("not readable: {}", unread.join(", ")),
            "run doctor as root (sudo)",
        );
    }
    Check::good(name, "no enrolment token in its files")
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    if depth == 0 {
        return;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        // Links are not followed: `instance` points to a folder that is walked by itself.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), depth - 1, found),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

/// Whether the file has `needle` in it, whatever its size: logs grow.
fn holds(path: &Path, needle: &[u8]) -> io::Result<bool> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW)
        .open(path)?;
    // The end of one chunk stays, since a token may lie across two.
    let mut window = Vec::with_capacity(CHUNK + needle.len());
    loop {
        let length = (&mut file).take(CHUNK as u64).read_to_end(&mut window)?;
        if window.windows(needle.len()).any(|part| part == needle) {
            return Ok(true);
        }
        if length == 0 {
            return Ok(false);
        }
        window.drain(..window.len().saturating_sub(needle.len()));
    }
}
