//! Whether an enrolment token still lies in what cloud-init keeps of a host's user data.

use std::path::{Path, PathBuf};

use super::Check;
use crate::store::read;
use crate::token::Token;
use crate::world::World;

/// Where cloud-init keeps user data, scripts made of it, and its logs.
const FOLDERS: [&str; 2] = ["/var/lib/cloud", "/run/cloud-init"];
const LOGS: [&str; 2] = ["/var/log/cloud-init.log", "/var/log/cloud-init-output.log"];
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
    let holding: Vec<String> = files
        .iter()
        .filter(|path| holds(path, needle.as_bytes()))
        .map(|path| path.display().to_string())
        .collect();
    if holding.is_empty() {
        return Check::good(name, "no enrolment token in its files");
    }
    Check::warning(
        name,
        format!("an enrolment token can be read in {}", holding.join(", ")),
        format!(
            "after the enrolment: shred -u {}; better: give the token by --token-command, so that user data holds none",
            holding.join(" ")
        ),
    )
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

fn holds(path: &Path, needle: &[u8]) -> bool {
    read::own(path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
}
