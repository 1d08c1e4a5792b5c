//! The status of a Mimir host, for people and for programs.

use serde_json::{Value, json};

use crate::host_state::{EnrolmentState, HostState};
use agent_core::clock;
use agent_core::enrolment::StatusReport;
use agent_core::environment::Environment;
use agent_core::error::{ErrorId, Kind, Result};
use agent_core::service::{self, HealthFile, Liveness};
use agent_core::text::rows;

/// The command that enrols a host.
pub(crate) const TO_ENROL: &str =
    "MIMIR_ENROLLMENT_SECRET=… monsys-agent enrol --dialect mimir --hub-url https://HOST";

/// Returns the status: whether this host is enrolled, until when its certificate is valid, and when the
/// server last accepted a call. Sends nothing.
///
/// # Errors
/// A broken key or certificate, and files that cannot be read.
pub(crate) fn report(state: &HostState, environment: &Environment) -> Result<StatusReport> {
    let enrolment_state = state.enrolment_state(environment.now())?;
    let certificate = state.certificate()?;
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
            "This host is not enrolled: the files on its disk belong to another machine, which it was cloned from.",
        ),
    };
    let folder = state.files.folder().display().to_string();
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
                "state": name,
                "certificate_expires_at": until,
                "folder": folder,
            }),
            exit_code: ErrorId::NotEnrolled.kind().exit_code(),
        });
    }
    let record = &state.record;
    let agent = record.agent_id.clone().unwrap_or_default();
    let server = record.server_url.clone().unwrap_or_default();
    let health = HealthFile::of(state.files.folder(), environment).load(&agent);
    let liveness = Liveness::of(health.as_ref(), &service::moment(environment));
    let mut table = vec![
        ("agent", agent.clone()),
        ("since", record.enrolled_at.clone().unwrap_or_default()),
        ("certificate until", until.clone().unwrap_or_default()),
        ("renewed from", renewal.clone().unwrap_or_default()),
        ("heartbeat", liveness.describe(health.as_ref())),
        ("folder", folder.clone()),
    ];
    let failure = health.as_ref().and_then(|health| health.failing());
    if let Some(failure) = failure {
        let text = format!(
            "{} (since {}, {} tries)",
            failure.what, failure.since, failure.tries
        );
        table.push(("last failure", text));
        table.push(("  cause", failure.cause.clone()));
        table.push(("  hint", failure.hint.clone()));
    }
    let last = health.as_ref().and_then(|it| it.last_heartbeat.clone());
    let failure: Value = json!(failure);
    Ok(StatusReport {
        text: format!(
            "This host is enrolled at {server}.\n{}{}",
            rows(&table),
            liveness.hint()
        ),
        json: json!({
            "enrolled": true,
            "state": name,
            "agent_id": agent,
            "hub_url": server,
            "enrolled_at": record.enrolled_at,
            "certificate_expires_at": until,
            "certificate_renewed_from": renewal,
            "heartbeats": liveness.rate.word(),
            "last_heartbeat": last,
            "last_failure": failure,
            "folder": folder,
        }),
        exit_code: if liveness.is_silent() {
            Kind::Temporary.exit_code()
        } else {
            0
        },
    })
}
