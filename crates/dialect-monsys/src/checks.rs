//! What `doctor` finds of a monsys hub's agent on the host.

use crate::host_state::{Enrolled, EnrolmentState};
use agent_core::check::Check;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::settings::Settings;

/// agent.toml could be read, or there would be no settings.
pub(crate) fn settings(settings: &Settings, environment: &Environment) -> Check {
    let path = environment.path(&settings.config_path);
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
pub(crate) fn identity(enrolment_state: Result<&EnrolmentState>) -> Check {
    let name = "identity";
    match enrolment_state {
        Err(error) => Check::bad(name, &error),
        Ok(EnrolmentState::New(_)) => Check::good(name, "this host is not enrolled yet"),
        Ok(EnrolmentState::Unconfirmed(..)) => Check::good(
            name,
            "agent.toml holds a per-agent token that no hub has confirmed yet",
        ),
        Ok(EnrolmentState::Clone(_)) => Check::warning(
            name,
            "what is on this disk belongs to another machine, which this one was cloned from",
            "monsys-agent enrol, with a token: this host then enrols as itself",
        ),
        Ok(EnrolmentState::Enrolled(enrolled)) if interrupted(enrolled).is_some() => {
            let (cause, hint) = interrupted(enrolled).unwrap_or_default();
            Check::warning(name, cause, hint)
        }
        Ok(EnrolmentState::Enrolled(enrolled)) => Check::good(
            name,
            format!("enrolled at {} as {}", enrolled.hub_url, enrolled.agent_id),
        ),
    }
}

fn interrupted(enrolled: &Enrolled) -> Option<(&'static str, &'static str)> {
    enrolled.state.as_ref()?.interrupted()
}

/// Whether a host goes without a token.
pub(crate) fn without_token(enrolment_state: &Result<&EnrolmentState>) -> Check {
    let name = "token";
    match enrolment_state {
        Ok(EnrolmentState::Enrolled(enrolled)) if interrupted(enrolled).is_some() => {
            let (cause, hint) = interrupted(enrolled).unwrap_or_default();
            Check::bad(name, &Error::new(ErrorId::TokenMissing, cause).hint(hint))
        }
        Ok(EnrolmentState::Enrolled(_)) => Check::good(name, "an enrolled host needs none"),
        Ok(EnrolmentState::Unconfirmed(..)) => Check::good(name, "the one in agent.toml"),
        Ok(EnrolmentState::New(_) | EnrolmentState::Clone(_)) => Check::bad(
            name,
            &Error::new(ErrorId::TokenMissing, "this host is not enrolled"),
        ),
        Err(_) => Check::skipped(name, "it is not known whether this host is enrolled"),
    }
}
