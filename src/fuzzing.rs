//! Doors for the fuzz targets (`fuzz/`) to what is private. For nobody else.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::error::Result;
use crate::store::agent_toml::AgentToml;

/// `PRETTY_NAME` of an os-release file, made printable.
#[must_use]
pub fn os_release_name(bytes: &[u8]) -> Option<String> {
    crate::facts::os_release::name_in(bytes)
}

/// How long a `Retry-After` asks to wait.
#[must_use]
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    crate::hub::client::retry_after(value, now)
}

/// An `agent.toml` with this text.
///
/// # Errors
/// Those of [`AgentToml::load`].
pub fn agent_toml(path: &Path, text: &str) -> Result<AgentToml> {
    AgentToml::of(path, text.to_owned().into())
}
