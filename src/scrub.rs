//! Takes the enrolment token out of what cloud-init keeps, once the hub has confirmed the host.
//!
//! Every byte but the token's own stays as it was, and so does the length of each file: pickles
//! and archives stay readable, and a log that is being written goes on where it was.

pub mod layers;

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::cloud_init;
use crate::error::{Error, ErrorId, Result};
use crate::store::{overwrite, read};
use crate::token::Secret;
use crate::world::World;

/// What every enrolment token begins with; it stays, so that a reader sees what was there.
const PREFIX: &[u8] = b"enrl_";
/// What stands in the place of the rest.
const FILLER: u8 = b'x';
/// Fewer characters behind the prefix are no token, but a word about one.
const SHORTEST: usize = 8;
/// No file of cloud-init is near this; what is longer is not looked into.
const LONGEST_FILE: u64 = 64 << 20;

/// Scrubs the enrolment token out of cloud-init's files; returns the files that it was in.
///
/// # Errors
/// [`ErrorId::TokenLeftBehind`] names the files that could not be scrubbed. All others are.
pub fn cloud_init(secret: &Secret, world: &World) -> Result<Vec<PathBuf>> {
    let mut scrubbed = Vec::new();
    let mut left = String::new();
    for path in cloud_init::files(world) {
        match scrub(&path, secret) {
            Ok(true) => {
                tracing::info!("scrubbed the enrolment token from {}", path.display());
                scrubbed.push(path);
            }
            Ok(false) => {}
            // A log may be rotated, a lock file may vanish.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let comma = if left.is_empty() { "" } else { ", " };
                let _ = write!(left, "{comma}{} ({error})", path.display());
            }
        }
    }
    if left.is_empty() {
        return Ok(scrubbed);
    }
    Err(Error::new(
        ErrorId::TokenLeftBehind,
        format!("these could not be scrubbed: {left}"),
    ))
}

/// Whether a file holds something that can be used as an enrolment token.
///
/// # Errors
/// What the system says; a file of more than 64 MiB is not looked into.
pub fn holds_token(path: &Path) -> io::Result<bool> {
    read::at_most(path, LONGEST_FILE).map(|bytes| has_token(&bytes))
}

/// Whether `bytes` hold, in whatever layer, something that can be used as an enrolment token.
#[must_use]
pub fn has_token(bytes: &[u8]) -> bool {
    let mut copy = Zeroizing::new(bytes.to_vec());
    let mut found = false;
    layers::visit(&mut copy, &mut |layer| {
        found |= layer
            .windows(PREFIX.len())
            .enumerate()
            .any(|(at, window)| window == PREFIX && is_live(&layer[at + PREFIX.len()..]));
        false
    });
    found
}

/// Whether what follows a prefix is a token, and not one that was scrubbed.
fn is_live(rest: &[u8]) -> bool {
    let is_of_token = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_-".contains(*byte);
    let tail = || rest.iter().take_while(is_of_token);
    tail().count() >= SHORTEST && tail().any(|byte| *byte != FILLER)
}

fn scrub(path: &Path, secret: &Secret) -> io::Result<bool> {
    let before = Zeroizing::new(read::at_most(path, LONGEST_FILE)?);
    let mut after = Zeroizing::new(before.to_vec());
    let needle = secret.expose_secret().as_bytes();
    if !layers::visit(&mut after, &mut |layer| blot_out(layer, needle)) {
        return Ok(false);
    }
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path)?;
    overwrite::changed(&file, &before, &after)?;
    Ok(true)
}

/// Replaces each `needle`; tells whether there was one.
fn blot_out(bytes: &mut [u8], needle: &[u8]) -> bool {
    let mut found = false;
    let mut at = 0;
    while let Some(next) = bytes[at..]
        .windows(needle.len())
        .position(|window| window == needle)
    {
        let end = at + next + needle.len();
        bytes[at + next + PREFIX.len()..end].fill(FILLER);
        at = end;
        found = true;
    }
    found
}

#[cfg(test)]
mod tests;
