//! The settings of an enrolled host that a run changes, for its report.

use crate::state::TagsAndRole;
use agent_core::enrolment::ChangedSetting;
use agent_core::store::agent_toml::{AgentToml, Entry};

/// Returns the changes from the settings in `file` to the merged tags and role and to the other `entries`. A host
/// that has no credential yet has no changes. `is_new_ca` means that the copy of the CA has another content.
pub(super) fn between(
    file: &AgentToml,
    merged: &TagsAndRole,
    entries: &[(&'static str, Entry<'_>)],
    is_new_ca: bool,
) -> Vec<ChangedSetting> {
    if !matches!(file.agent_id(), Ok(Some(_))) {
        return Vec::new();
    }
    let before = file.settings();
    let tags = before.tags.as_deref().unwrap_or_default();
    let mut changes = Vec::new();
    let mut change = |setting, text| changes.push(ChangedSetting { setting, text });
    for (verb, list, other) in [
        ("added", merged.tags.as_slice(), tags),
        ("removed", tags, merged.tags.as_slice()),
    ] {
        let differing: Vec<&str> = list
            .iter()
            .filter(|tag| !other.contains(tag))
            .map(String::as_str)
            .collect();
        if !differing.is_empty() {
            change("tags", format!("tags {verb}: {}", differing.join(", ")));
        }
    }
    let role = before.role.as_deref().filter(|role| !role.is_empty());
    if role != merged.role.as_deref() {
        let name = |role: Option<&str>| role.unwrap_or("none").to_owned();
        let text = format!("role: {}, was {}", name(merged.role.as_deref()), name(role));
        change("role", text);
    }
    for (key, entry) in entries {
        let is_changed = match (*key, entry) {
            ("hub_url", Entry::Text(url)) => before.hub_url.as_ref() != Some(url),
            ("ca_file", Entry::Text(path)) => is_new_ca || before.ca_file.as_ref() != Some(path),
            ("ca_pin", Entry::Text(pin)) => before.ca_pin.as_ref() != Some(pin),
            ("https_proxy", Entry::Text(proxy)) => before.https_proxy.as_ref() != Some(proxy),
            ("no_proxy", Entry::Text(bypass)) => before.no_proxy.as_ref() != Some(bypass),
            ("allow_http", Entry::Flag(flag)) => before.allow_http != Some(*flag),
            ("state_dir", Entry::Text(path)) => before.state_dir.as_ref() != Some(path),
            _ => false,
        };
        if !is_changed {
            continue;
        }
        let text = match entry {
            // The URL may hold a password.
            Entry::Text(value) if *key != "https_proxy" => format!("{key}: {value}"),
            _ => format!("{key}: changed"),
        };
        change(key, text);
    }
    changes
}
