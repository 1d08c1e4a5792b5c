//! The settings that the service needs to reach the hub, and that an enrolment stores in agent.toml.

use std::path::Path;

use agent_core::ca_copy;
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::settings::Settings;
use agent_core::store::agent_toml::Entry;
use agent_core::store::named;

/// Returns whether this run names a setting for the way to the hub that agent.toml lacks, or has with another
/// value. A CA counts by its content, since the same CA can have several paths.
///
/// # Errors
/// [`agent_core::error::ErrorId::Unreadable`] for the CA file.
pub(crate) fn differ(settings: &Settings, environment: &Environment) -> Result<bool> {
    let file = &settings.file;
    for (key, entry) in entries(settings, environment) {
        let is_equal = match key {
            "ca_file" => is_same_ca(settings, environment)?,
            _ => file.is(&file.with(&[(key, entry)])?),
        };
        if !is_equal {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether the CA of this run has the content of the CA that agent.toml names.
fn is_same_ca(settings: &Settings, environment: &Environment) -> Result<bool> {
    let (Some(given), Some(stored)) = (&settings.ca_file, &settings.file.settings().ca_file) else {
        return Ok(false);
    };
    let stored = environment.resolved_path(stored);
    if stored == given.value {
        return Ok(true);
    }
    let given = given.read(settings.wait.value)?;
    Ok(named::regular(&stored).is_ok_and(|stored| stored == given))
}

/// Returns the settings of this run that the service needs to reach the hub, as entries of agent.toml.
pub(crate) fn entries(
    settings: &Settings,
    environment: &Environment,
) -> Vec<(&'static str, Entry<'static>)> {
    let mut entries = Vec::new();
    if let Some(ca_file) = &settings.ca_file
        && ca_file.source.is_explicit()
        && ca_file.can_be_named()
    {
        let config = environment.path(&settings.config_path);
        let folder = config.parent().unwrap_or(Path::new("/"));
        let copy = ca_copy::place(settings, folder, environment);
        match environment.path_on_host(copy.as_deref().unwrap_or(&ca_file.value)) {
            Some(path) => {
                let path = path.to_string_lossy().into_owned();
                entries.push(("ca_file", Entry::Text(path)));
            }
            None => tracing::warn!(
                "{} is outside of --root, so agent.toml does not name it: copy the CA below --root, and set `ca_file` to that path",
                ca_file.value.display()
            ),
        }
    }
    if let Some(pin) = &settings.ca_pin
        && pin.source.is_explicit()
    {
        entries.push(("ca_pin", Entry::Text(pin.value.to_string())));
    }
    if let Some(proxy) = &settings.proxy
        && proxy.source.is_explicit()
    {
        // The URL may hold a password, so only the owner may read agent.toml.
        entries.push(("https_proxy", Entry::Text(proxy.value.url.to_string())));
        if let Some(exceptions) = &proxy.value.exceptions {
            entries.push(("no_proxy", Entry::Text(exceptions.clone())));
        }
    }
    if settings.allow_http.value && settings.allow_http.source.is_explicit() {
        entries.push(("allow_http", Entry::Flag(true)));
    }
    if settings.state_dir.source.is_explicit() {
        let path = settings.state_dir.value.to_string_lossy().into_owned();
        entries.push(("state_dir", Entry::Text(path)));
    }
    entries
}
