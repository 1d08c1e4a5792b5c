//! What `doctor` finds of a monsys hub's agent on the host.

use crate::standing::{Enrolled, Standing};
use agent_core::check::Check;
use agent_core::environment::World;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::settings::Settings;

/// agent.toml could be read, or there would be no settings.
pub(crate) fn settings(settings: &Settings, world: &World) -> Check {
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

/// Whose the identity on the disk is.
pub(crate) fn identity(standing: Result<Standing>) -> Check {
    let name = "identity";
    match standing {
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
        Ok(Standing::Enrolled(enrolled)) if interrupted(&enrolled).is_some() => {
            let (cause, hint) = interrupted(&enrolled).unwrap_or_default();
            Check::warning(name, cause, hint)
        }
        Ok(Standing::Enrolled(enrolled)) => Check::good(
            name,
            format!("enrolled at {} as {}", enrolled.hub_url, enrolled.agent_id),
        ),
    }
}

fn interrupted(enrolled: &Enrolled) -> Option<(&'static str, &'static str)> {
    enrolled.state.as_ref()?.interrupted()
}

/// Whether a host goes without a token.
pub(crate) fn without_token(standing: Result<Standing>) -> Check {
    let name = "token";
    match standing {
        Ok(Standing::Enrolled(enrolled)) if interrupted(&enrolled).is_some() => {
            let (cause, hint) = interrupted(&enrolled).unwrap_or_default();
            Check::bad(name, &Error::new(ErrorId::TokenMissing, cause).hint(hint))
        }
        Ok(Standing::Enrolled(_)) => Check::good(name, "an enrolled host needs none"),
        Ok(Standing::Unconfirmed(..)) => Check::good(name, "the one in agent.toml"),
        Ok(Standing::New(_) | Standing::Clone(_)) => Check::bad(
            name,
            &Error::new(ErrorId::TokenMissing, "this host is not enrolled"),
        ),
        Err(_) => Check::skipped(name, "it is not known whether this host is enrolled"),
    }
}
