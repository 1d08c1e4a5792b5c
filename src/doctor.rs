//! `doctor`: checks all that an enrolment needs, and spends no use.
//!
//! Each check is one [`Check`]; a failed one has a hint. What a failed check makes pointless
//! is skipped, so that one cause is told once.

mod host;
mod leftovers;
pub(crate) mod metadata;
mod network;

use crate::dialects;
use agent_core::check::Check;
use agent_core::environment::Environment;
use agent_core::error::{ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::hub::retry::Limit;
use agent_core::store::atomic;

/// Looks at everything.
///
/// # Errors
/// None: what fails is a finding.
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
    let limit = Limit::of(settings.wait);
    let (check, token) = host::token(&*host, environment, limit).await;
    checks.push(check);
    checks.push(host::plan(&*host, token.as_ref(), environment));
    checks.extend(host::folders(&*host));
    checks.extend(network::examine(settings, environment).await);
    checks.push(host::service_manager(environment));
    checks.push(leftovers::examine(environment));
    checks.push(metadata::examine(settings, environment).await);
    checks
}

/// Proves that `folder`, or the parent that it would be made in, takes a durable write.
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
        format!("{} takes a durable write", folder.display())
    } else {
        format!(
            "{} will be made; {} takes a durable write",
            folder.display(),
            existing.display()
        )
    })
}
