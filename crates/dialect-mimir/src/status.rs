//! Where a host stands to a Mimir server, told.

use serde_json::{Value, json};

use crate::host::{EnrolmentState, Host};
use crate::mimir::Mimir;
use agent_core::check::Check;
use agent_core::clock;
use agent_core::enrolment::StatusReport;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Kind, Result};
use agent_core::service::{self, HealthFile, Liveness};
use agent_core::text::rows;

/// What enrols a host that is not.
pub(crate) const TO_ENROL: &str =
    "MIMIR_ENROLLMENT_SECRET=… monsys-agent enrol --dialect mimir --hub-url https://HOST";

pub(crate) fn account(host: &Host, environment: &Environment) -> Result<StatusReport> {
    let enrolment_state = host.enrolment_state(environment.now())?;
    let certificate = host.certificate()?;
    let (name, headline) = match enrolment_state {
        EnrolmentState::Enrolled => ("enrolled", ""),
        EnrolmentState::New => ("new", "This host is not enrolled."),
        EnrolmentState::Unproved => (
            "unproved",
            "This host is not enrolled: it has a client certificate that no call has proved yet.",
        ),
        EnrolmentState::Expired => (
            "expired",
            "This host is not enrolled any more: its client certificate has expired.",
        ),
        EnrolmentState::Clone => (
            "clone",
            "This host is not enrolled: what is on its disk belongs to another machine, which it was cloned from.",
        ),
    };
    let folder = host.files.folder().display().to_string();
    let date = clock::rfc3339;
    let until = certificate.as_ref().map(|it| date(it.expires_at()));
    let renewal = certificate.as_ref().map(|it| date(it.renew_at()));
    if enrolment_state != EnrolmentState::Enrolled {
        return Ok(StatusReport {
            text: format!(
                "{headline}\n{}To enrol it: {TO_ENROL}\n",
                rows(&[("folder", folder.clone())])
            ),
            json: json!({
                "enrolled": false,
                "standing": name,
                "certificate_expires_at": until,
                "folder": folder,
            }),
            exit_code: ErrorId::NotEnrolled.kind().exit_code(),
        });
    }
    let notes = &host.notes;
    let agent = notes.agent_id.clone().unwrap_or_default();
    let server = notes.server_url.clone().unwrap_or_default();
    let health = HealthFile::of(host.files.folder(), environment).load(&agent);
    let pulse = Liveness::of(health.as_ref(), &service::moment(environment));
    let mut table = vec![
        ("agent", agent.clone()),
        ("since", notes.enrolled_at.clone().unwrap_or_default()),
        ("certificate until", until.clone().unwrap_or_default()),
        ("renewed from", renewal.clone().unwrap_or_default()),
        ("heartbeat", pulse.describe(health.as_ref())),
        ("folder", folder.clone()),
    ];
    let failure = health.as_ref().and_then(|health| health.failing());
    if let Some(failure) = failure {
        let text = format!(
            "{} (since {}, {} tries)",
            failure.what, failure.since, failure.tries
        );
        table.push(("last failure", text));
        table.push(("  why", failure.cause.clone()));
        table.push(("  hint", failure.hint.clone()));
    }
    let last = health.as_ref().and_then(|it| it.last_heartbeat.clone());
    let failure: Value = json!(failure);
    Ok(StatusReport {
        text: format!(
            "This host is enrolled at {server}.\n{}{}",
            rows(&table),
            pulse.hint()
        ),
        json: json!({
            "enrolled": true,
            "standing": name,
            "agent_id": agent,
            "hub_url": server,
            "enrolled_at": notes.enrolled_at,
            "certificate_expires_at": until,
            "certificate_renewed_from": renewal,
            "heartbeats": pulse.rate.word(),
            "last_heartbeat": last,
            "last_failure": failure,
            "folder": folder,
        }),
        exit_code: if pulse.is_silent() {
            Kind::Silent.exit_code()
        } else {
            0
        },
    })
}

pub(crate) fn checks(mimir: &Mimir<'_>) -> Vec<Check> {
    let folder = mimir.host.files.folder().display();
    let server = if mimir.has_server {
        Check::good(
            "settings",
            format!(
                "{folder} is read; the server is {}",
                mimir.settings.hub_url.value
            ),
        )
    } else {
        let error = Error::new(ErrorId::BadHubUrl, "none is given, and there is no default")
            .hint("give it with --hub-url URL, or as MIMIR_SERVER_URL");
        Check::bad("settings", &error)
    };
    let name = "certificate";
    let certificate = match (mimir.enrolment_state(), mimir.host.certificate()) {
        (Err(error), _) | (_, Err(error)) => Check::bad(name, &error),
        (Ok(EnrolmentState::New), _) => Check::good(name, "this host is not enrolled yet"),
        (Ok(EnrolmentState::Clone), _) => Check::warning(
            name,
            "what is on this disk belongs to another machine, which this one was cloned from",
            "monsys-agent enrol, with a secret: this host then enrols as itself",
        ),
        (Ok(EnrolmentState::Unproved), _) => Check::warning(
            name,
            "there is one that no call has proved yet",
            "monsys-agent enrol --dialect mimir, which needs no secret",
        ),
        (Ok(EnrolmentState::Expired), _) => Check::warning(
            name,
            "it has expired, so it cannot be renewed",
            "monsys-agent enrol, with a secret: the key stays, so it is the same agent",
        ),
        (Ok(EnrolmentState::Enrolled), Ok(certificate)) => {
            let until = certificate.map(|certificate| clock::rfc3339(certificate.expires_at()));
            let agent = mimir.host.notes.agent_id.clone().unwrap_or_default();
            Check::good(
                name,
                format!(
                    "that of agent {agent}, good until {}",
                    until.unwrap_or_default()
                ),
            )
        }
    };
    vec![server, certificate]
}
