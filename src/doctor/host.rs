//! What is on the host: settings, token, identity, directories, service manager.

use super::{Check, prove};
use crate::enrolment::{self, Paths, Plan, Standing};
use crate::error::{Error, ErrorId};
use crate::hub::retry::Limit;
use crate::settings::Settings;
use crate::token::Token;
use crate::world::World;

/// agent.toml could be read, or there would be no settings.
pub(super) fn settings(settings: &Settings, world: &World) -> Check {
    let path = world.path(&settings.config_path);
    let says = if path.exists() {
        format!("{} is read", path.display())
    } else {
        format!("{} is not there yet", path.display())
    };
    Check::good(
        "settings",
        format!("{says}; the hub is {}", settings.hub_url.value),
    )
}

/// The token's source and shape.
pub(super) async fn token(
    settings: &Settings,
    world: &World,
    limit: Limit,
) -> (Check, Option<Token>) {
    let standing = Standing::of(settings, &Paths::of(settings, world), world);
    let takes_token = standing
        .as_ref()
        .is_ok_and(|standing| standing.takes_token(settings, false));
    let Some(source) = settings.token.as_ref().filter(|_| takes_token) else {
        let check = match &standing {
            Ok(Standing::Enrolled(enrolled)) if enrolled.is_renewing() => Check::warning(
                "token",
                "none is given, and a forced enrolment was interrupted, so the credential may be dead",
                "monsys-agent enrol, with the token of that enrolment",
            ),
            Ok(Standing::Enrolled(_)) => Check::good("token", "an enrolled host needs none"),
            Ok(Standing::Unconfirmed(..)) => Check::good("token", "the one in agent.toml"),
            Ok(Standing::New(_) | Standing::Clone(_)) => Check::bad(
                "token",
                &Error::new(ErrorId::TokenMissing, "this host is not enrolled"),
            ),
            Err(_) => Check::skipped("token", "it is not known whether this host is enrolled"),
        };
        return (check, None);
    };
    match source.fetch(world, limit.deadline).await {
        Ok(token) => {
            let says = format!("an {} from {source}", token.kind()).replace("an per", "a per");
            (Check::good("token", says), Some(token))
        }
        Err(error) => (Check::bad("token", &error), None),
    }
}

/// What a run of `enrol` would do.
pub(super) fn plan(settings: &Settings, token: Option<&Token>, world: &World) -> Check {
    let name = "plan";
    match enrolment::preview(settings, token.map(Token::kind), false, world) {
        Err(error) => Check::bad(name, &error),
        Ok(Plan::Already(_)) => Check::good(name, "enrol would find the host enrolled"),
        Ok(Plan::Ask(ask)) => Check::good(
            name,
            format!(
                "enrol would POST {}",
                settings.hub_url.value.join(ask.call.path())
            ),
        ),
    }
}

/// Whose the identity on the disk is.
pub(super) fn identity(settings: &Settings, world: &World) -> Check {
    let name = "identity";
    match Standing::of(settings, &Paths::of(settings, world), world) {
        Err(error) => Check::bad(name, &error),
        Ok(Standing::New(_)) => Check::good(name, "this host is not enrolled yet"),
        Ok(Standing::Unconfirmed(..)) => Check::good(
            name,
            "agent.toml holds a per-agent token that no hub has confirmed yet",
        ),
        Ok(Standing::Clone(_)) => Check::warning(
            name,
            "what is on this disk belongs to another machine, which this one was cloned from",
            "monsys-agent enrol, with a token: this host then enrols as itself",
        ),
        Ok(Standing::Enrolled(enrolled)) => Check::good(
            name,
            format!("enrolled at {} as {}", enrolled.hub_url, enrolled.agent_id),
        ),
    }
}

/// Both directories.
pub(super) fn folders(settings: &Settings, world: &World) -> Vec<Check> {
    let paths = Paths::of(settings, world);
    let config_dir = paths.config.parent().unwrap_or(&paths.config);
    [
        ("config directory", config_dir, ErrorId::ConfigUnwritable),
        (
            "state directory",
            paths.state_dir.as_path(),
            ErrorId::StateUnwritable,
        ),
    ]
    .into_iter()
    .map(|(name, folder, id)| match prove(folder, id) {
        Ok(says) => Check::good(name, says),
        Err(error) => Check::bad(name, &error),
    })
    .collect()
}

/// systemd, by the mark that `sd_booted(3)` looks for.
pub(super) fn service_manager(world: &World) -> Check {
    let name = "service manager";
    if world.path("/run/systemd/system").is_dir() {
        Check::good(name, "systemd runs this host")
    } else {
        Check::good(
            name,
            "systemd does not run this host; enrolling does not need it",
        )
    }
}
