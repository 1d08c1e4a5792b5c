//! The settings that the service needs to reach the hub, and that an enrolment stores in agent.toml.

use std::path::Path;

use agent_core::ca_copy;
use agent_core::environment::Environment;
use agent_core::settings::Settings;
use agent_core::store::agent_toml::Entry;

/// Returns whether agent.toml lacks a setting that this run needs to reach the hub: the service would not
/// reach it then. A run that names the settings again restores what a takeover has dropped.
pub(crate) fn are_missing(settings: &Settings, environment: &Environment) -> bool {
    let file = settings.file.settings();
    entries(settings, environment)
        .iter()
        .any(|(key, _)| match *key {
            "ca_file" => file.ca_file.is_none(),
            "ca_pin" => file.ca_pin.is_none(),
            "https_proxy" => file.https_proxy.is_none(),
            "no_proxy" => file.no_proxy.is_none(),
            "allow_http" => file.allow_http.is_none(),
            _ => file.state_dir.is_none(),
        })
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
        if let Some(bypass) = &proxy.value.bypass {
            entries.push(("no_proxy", Entry::Text(bypass.clone())));
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
