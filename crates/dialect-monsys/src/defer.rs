//! `enrol --defer`, for golden images: stores the settings, so that the first boot of each host from the
//! image has only to enrol.
//!
//! An image has no identity and no secret: no key is made, no token is stored, and no use is spent. The
//! image has the hub's URL, and the place where the first boot finds a token.

use std::path::PathBuf;

use crate::connection_settings;
use crate::monsys::{Monsys, locked_under};
use crate::paths::{KeyWrite, Paths};
use agent_core::ca_copy;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::hub::retry::Limit;
use agent_core::settings::Settings;
use agent_core::sourced::Source;
use agent_core::store::agent_toml::Entry;
use agent_core::store::lock::Lock;
use agent_core::token_source::TokenSource;

/// A prepared image.
#[derive(Debug)]
pub struct Deferred {
    /// The hub.
    pub hub_url: String,
    /// Own tags.
    pub tags: Vec<String>,
    /// Explicit role.
    pub role: Option<String>,
    /// The place where the first boot finds its token, if one is set.
    pub token_from: Option<String>,
    /// Path of agent.toml.
    pub config: PathBuf,
    /// agent.toml was changed.
    pub changed: bool,
}

/// Prepares an image.
///
/// # Errors
/// [`ErrorId::ImageHasIdentity`], wrong settings, and files that cannot be written.
pub async fn defer(flags: &Flags, environment: &Environment) -> Result<Deferred> {
    defer_under(None, flags, environment).await
}

/// Prepares an image, for a caller that may hold the lock already.
///
/// # Errors
/// As [`defer`].
pub async fn defer_under(
    held: Option<&Lock>,
    flags: &Flags,
    environment: &Environment,
) -> Result<Deferred> {
    let before = Monsys::read(flags, environment)?;
    refuse_identity(&before.settings, &before.paths)?;
    let limit = Limit::of(before.settings.wait.value);
    let (host, lock) = locked_under(held, before, limit).await?;
    let Monsys {
        settings, paths, ..
    } = host;
    // The previous holder of the lock may have enrolled this host.
    refuse_identity(&settings, &paths)?;
    paths.sweep()?;
    paths.prove_writable(&settings, environment, KeyWrite::Never)?;

    let hub_url = settings.hub_url.value.to_string();
    let mut entries = vec![("hub_url", Entry::Text(hub_url.clone()))];
    let tags = settings.tags.value.clone();
    if !tags.is_empty() {
        entries.push(("tags", Entry::List(&tags)));
    }
    let role = settings.role.as_ref().map(|role| role.value.clone());
    if let Some(role) = &role {
        entries.push(("role", Entry::Text(role.clone())));
    }
    if settings.splay.source.is_explicit() {
        let splay = humantime::format_duration(settings.splay.value).to_string();
        entries.push(("splay", Entry::Text(splay)));
    }
    let token_from = match &settings.token {
        // agent.toml names the file already. A link is not resolved.
        Some(TokenSource::File(path, Source::Key(..))) => {
            let path = environment
                .path_on_host(path)
                .unwrap_or_else(|| path.clone());
            Some(format!("the file {}", path.display()))
        }
        Some(TokenSource::File(path, _)) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            let path = environment.path_on_host(&path).unwrap_or(path);
            let path = path.to_string_lossy().into_owned();
            entries.push(("token_file", Entry::Text(path.clone())));
            Some(format!("the file {path}"))
        }
        Some(TokenSource::Command(command, _)) => {
            entries.push(("token_command", Entry::Text(command.clone())));
            Some("the token command".into())
        }
        Some(source) => {
            tracing::warn!(
                "the token from {source} is not stored: everybody who can read the image could read it"
            );
            None
        }
        None => None,
    };
    ca_copy::make(&settings, paths.config_dir(), environment)?;
    entries.extend(connection_settings::entries(&settings, environment));
    let text = settings.file.with(&entries)?;
    let changed = !settings.file.is(&text);
    if changed {
        settings
            .file
            .replace(&text, environment.access())
            .map_err(|error| paths.config_error(&error))?;
    }
    drop(lock);
    Ok(Deferred {
        hub_url,
        tags,
        role,
        token_from,
        config: paths.config,
        changed,
    })
}

/// Refuses an image that has an identity already.
fn refuse_identity(settings: &Settings, paths: &Paths) -> Result<()> {
    let mut found = paths.identity_files()?;
    if settings.file.agent_token()?.is_some() || settings.file.agent_id()?.is_some() {
        found.push(paths.config.clone());
    }
    if found.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = found
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    Err(Error::new(
        ErrorId::ImageHasIdentity,
        format!("the identity is in {}", list.join(", ")),
    )
    .hint(format!(
        "remove the files, and run the same command again: rm {}",
        list.join(" ")
    )))
}
