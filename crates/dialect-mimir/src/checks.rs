//! The checks of `doctor` on a Mimir host: its settings, its certificate and its secret.

use crate::host_state::EnrolmentState;
use crate::mimir::{Mimir, no_secret};
use agent_core::check::Check;
use agent_core::clock;
use agent_core::error::{Error, ErrorId};

/// Returns the checks of the settings and of the certificate.
pub(crate) fn checks(host: &Mimir<'_>) -> Vec<Check> {
    let folder = host.state.files.folder().display();
    let server = if host.has_server {
        Check::good(
            "settings",
            format!(
                "{folder} is read; the server is {}",
                host.settings.hub_url.value
            ),
        )
    } else {
        let error = Error::new(
            ErrorId::BadHubUrl,
            "no server is set, and there is no default",
        )
        .hint("set it with --hub-url URL or MIMIR_SERVER_URL");
        Check::bad("settings", &error)
    };
    let name = "certificate";
    let certificate = match (host.enrolment_state(), host.state.certificate()) {
        (Err(error), _) | (_, Err(error)) => Check::bad(name, &error),
        (Ok(EnrolmentState::New), _) => Check::good(name, "this host is not enrolled yet"),
        (Ok(EnrolmentState::Clone), _) => Check::warning(
            name,
            "the files on this disk belong to another machine, which this one was cloned from",
            "monsys-agent enrol, with a secret: this host then enrols with a new identity",
        ),
        (Ok(EnrolmentState::Unproved), _) => Check::warning(
            name,
            "there is a certificate that no call has proved yet",
            "monsys-agent enrol --dialect mimir, which needs no secret",
        ),
        (Ok(EnrolmentState::Expired), _) => Check::warning(
            name,
            "the certificate has expired, so it cannot be renewed",
            "monsys-agent enrol, with a secret: the key stays, so the host stays the same agent",
        ),
        (Ok(EnrolmentState::Enrolled), Ok(certificate)) => {
            let until = certificate.map(|certificate| clock::rfc3339(certificate.expires_at()));
            let agent = host.state.record.agent_id.clone().unwrap_or_default();
            Check::good(
                name,
                format!(
                    "the certificate of agent {agent} is valid until {}",
                    until.unwrap_or_default()
                ),
            )
        }
    };
    vec![server, certificate]
}

/// Returns the check of the secret when this run has none, or takes none.
pub(crate) fn without_secret(host: &Mimir<'_>) -> Check {
    match host.enrolment_state() {
        Ok(EnrolmentState::Enrolled | EnrolmentState::Unproved) => {
            Check::good("token", "a host with a certificate needs none")
        }
        Ok(_) => Check::bad("token", &no_secret()),
        Err(_) => Check::skipped("token", "it is not known whether this host is enrolled"),
    }
}
