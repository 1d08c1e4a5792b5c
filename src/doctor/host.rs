//! The checks on the host: token, plan, folders, service manager.

use super::prove;
use agent_core::check::Check;
use agent_core::enrolment;
use agent_core::enrolment::Dialect;
use agent_core::environment::Environment;
use agent_core::facts::HostFacts;
use agent_core::facts::route::Target;
use agent_core::hub::retry::Limit;
use agent_core::store::{proof, unwritable};
use agent_core::token::Token;

/// Checks the source and the format of the secret.
pub(super) async fn token(
    host: &dyn Dialect,
    environment: &Environment,
    limit: Limit,
) -> (Check, Option<Token>) {
    let source = host.settings().token.as_ref();
    let Some(source) = source.filter(|_| host.takes_secret(false).unwrap_or(false)) else {
        return (host.without_secret(), None);
    };
    match enrolment::fetch(host, environment, limit).await {
        Ok(Some(token)) => {
            let says = format!("an {} from {source}", token.kind()).replace("an per", "a per");
            (Check::good("token", says), Some(token))
        }
        Ok(None) => (host.without_secret(), None),
        Err(error) => (Check::bad("token", &error), None),
    }
}

/// Asks the hub of an enrolled host whether it accepts the host's own credential.
pub(super) async fn credential(host: &dyn Dialect) -> Check {
    let name = "credential";
    match host.ask_hub().await {
        Ok(true) => Check::good(name, "the hub accepts this host's own credential"),
        Ok(false) => Check::skipped(name, "there is no credential to ask the hub with"),
        Err(error) => Check::bad(name, &error),
    }
}

/// Checks what a run of `enrol` would do.
pub(super) fn plan(host: &dyn Dialect, token: Option<&Token>, environment: &Environment) -> Check {
    let name = "plan";
    let kind = token.map(Token::kind);
    let settings = host.settings();
    let facts = HostFacts::gather(settings, environment, &Target::literal(settings));
    match host.preview(kind, false, &facts) {
        Err(error) => Check::bad(name, &error),
        Ok(None) => Check::good(name, "enrol would find the host enrolled"),
        Ok(Some(preview)) => Check::good(name, format!("enrol would POST {}", preview.url)),
    }
}

/// Checks the folders that an enrolment writes to, and its files in them.
pub(super) fn folders(host: &dyn Dialect, environment: &Environment) -> Vec<Check> {
    let mounts = environment.kernel_path(proof::MOUNTS);
    // `plan` reports the files of the host that are broken.
    let targets = host.targets().unwrap_or_default();
    let folders = host.folders().into_iter();
    folders
        .map(|folder| {
            let here = targets.iter();
            let mut here =
                here.filter(|target| target.path.parent() == Some(folder.path.as_path()));
            let obstacle = here.find_map(|target| {
                let error = proof::inspect(&target.path, &mounts).err()?;
                Some(unwritable(target.error_id, &target.path, &error))
            });
            match obstacle.map_or_else(|| prove(&folder.path, folder.error_id), Err) {
                Ok(says) => Check::good(folder.name, says),
                Err(error) => Check::bad(folder.name, &error),
            }
        })
        .collect()
}

/// Checks for systemd, by the folder that `sd_booted(3)` checks.
pub(super) fn service_manager(environment: &Environment) -> Check {
    let name = "service manager";
    if environment.resolved_path("/run/systemd/system").is_dir() {
        Check::good(name, "systemd runs this host")
    } else {
        Check::good(
            name,
            "systemd does not run this host; an enrolment does not need it",
        )
    }
}
