//! `doctor`: the checks of everything that an enrolment needs. They spend no use of the token.
//!
//! Each check is one [`Check`], and a failed check has a hint. A failed check skips the checks that depend
//! on it, so that one cause is reported once.

mod cloud_init;
mod host;
pub(crate) mod metadata;
mod network;

use crate::dialects;
use agent_core::check::Check;
use agent_core::environment::Environment;
use agent_core::error::{ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::hub::retry::Limit;
use agent_core::store::atomic;

/// Runs all checks.
pub async fn examine(flags: &Flags, environment: &Environment) -> Vec<Check> {
    let host = match dialects::open(flags, environment) {
        Ok(host) => host,
        Err(error) => {
            return vec![
                Check::bad("settings", &error),
                Check::skipped("everything else", "it needs the settings"),
            ];
        }
    };
    let settings = host.settings();
    let mut checks = host.checks();
    let limit = Limit::of(settings.wait.value);
    let (check, token) = host::token(&*host, environment, limit).await;
    checks.push(check);
    checks.push(host::plan(&*host, token.as_ref(), environment));
    checks.extend(host::folders(&*host, environment));
    if host.has_hub() {
        checks.extend(network::examine(settings, environment).await);
    } else {
        checks.push(Check::skipped("hub", "no hub is set"));
    }
    checks.push(host::credential(&*host).await);
    checks.push(host::service_manager(environment));
    checks.push(cloud_init::examine(environment));
    checks.push(metadata::examine(settings, environment).await);
    checks
}

/// Proves that `folder`, or its nearest existing parent, accepts a durable write. Returns the text of the
/// check.
fn prove(folder: &std::path::Path, id: ErrorId) -> Result<String> {
    let mut existing = folder;
    while !existing.exists() {
        match existing.parent() {
            Some(parent) => existing = parent,
            None => break,
        }
    }
    atomic::Owner::of(existing)
        .and_then(|owner| atomic::prove(existing, 4096, owner))
        .map_err(|error| agent_core::store::unwritable(id, existing, &error))?;
    Ok(if existing == folder {
        format!("{} accepts a durable write", folder.display())
    } else {
        format!(
            "{} will be made; {} accepts a durable write",
            folder.display(),
            existing.display()
        )
    })
}
