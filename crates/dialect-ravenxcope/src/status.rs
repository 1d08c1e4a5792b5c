//! The status of a sensor, for people and for programs.

use serde_json::json;

use crate::ravenxcope::Ravenxcope;
use crate::settings::SENSOR_TOKEN;
use agent_core::enrolment::StatusReport;
use agent_core::error::{ErrorId, Kind as ErrorKind};
use agent_core::service::{self, HealthFile, Liveness};
use agent_core::sourced::Source;
use agent_core::text::rows;

/// The way to enrol again after a response was lost.
pub(crate) const ENROL_AGAIN: &str = "have an operator of the backend make a new install token for this sensor, set it as INSTALL_TOKEN, and run: monsys-agent enrol --dialect ravenxcope";

/// Returns the health file of the service.
pub(crate) fn health_file(host: &Ravenxcope<'_>) -> HealthFile {
    HealthFile::of_dialect("ravenxcope", host.file.folder(), host.environment)
}

/// Returns the status: whether this sensor is enrolled, and when the backend last accepted a heartbeat.
/// Sends nothing.
pub(crate) fn report(host: &Ravenxcope<'_>) -> StatusReport {
    let config = host.file.path().display().to_string();
    let backend = host.settings.hub_url.value.to_string();
    let id = host.id().ok();
    let lost = host.lost_response();
    let Some(token) = &host.token else {
        let (enrolment_state, headline, next) = match lost {
            Some(pending) => (
                "unanswered",
                format!(
                    "This sensor is not enrolled: the response to its request of {} was lost.",
                    pending.sent_at()
                ),
                format!(
                    "Run the enrolment again; if the backend rejects that with 401, {ENROL_AGAIN}\n"
                ),
            ),
            None => (
                "new",
                "This sensor is not enrolled.".into(),
                "To enrol it: INSTALL_TOKEN=… monsys-agent enrol --dialect ravenxcope\n".into(),
            ),
        };
        let table = rows(&[
            ("sensor", id.unwrap_or("not set").into()),
            ("config", config.clone()),
        ]);
        return StatusReport {
            text: format!("{headline}\n{table}{next}"),
            json: json!({
                "enrolled": false,
                "state": enrolment_state,
                "sensor_id": id,
                "hub_url": backend,
                "config": config,
            }),
            exit_code: ErrorId::NotEnrolled.kind().exit_code(),
        };
    };
    let health = health_file(host).load(id.unwrap_or_default());
    let liveness = Liveness::of(health.as_ref(), &service::moment(host.environment));
    let pending = host.pending.as_ref().filter(|pending| !pending.is_open());
    let enrolled_at = pending.and_then(|pending| pending.enrolled_at.clone());
    let from = match &token.source {
        Source::Variable(_) => format!("{SENSOR_TOKEN} of the environment"),
        _ => "the env file".into(),
    };
    let mut table = vec![
        ("sensor", id.unwrap_or("not set").to_owned()),
        ("token", from),
        ("since", enrolled_at.clone().unwrap_or("not known".into())),
        ("heartbeat", liveness.describe(health.as_ref())),
        ("config", config.clone()),
    ];
    if let Some(failure) = health.as_ref().and_then(|health| health.failing()) {
        table.push((
            "failing",
            format!(
                "{}, {} tries since {}",
                failure.what, failure.tries, failure.since
            ),
        ));
        table.push(("  cause", failure.cause.clone()));
        table.push(("  hint", failure.hint.clone()));
    }
    let warning = match lost {
        Some(pending) => format!(
            "The response to a forced enrolment, of {}, was lost, so this sensor token may be invalid: {ENROL_AGAIN} --force\n",
            pending.sent_at()
        ),
        None => String::new(),
    };
    StatusReport {
        text: format!(
            "This sensor is enrolled at {backend}.\n{}{warning}{}",
            rows(&table),
            liveness.hint()
        ),
        json: json!({
            "enrolled": true,
            "state": "enrolled",
            "sensor_id": id,
            "hub_url": backend,
            "hostname": pending.and_then(|pending| pending.hostname.clone()),
            "enrolled_at": enrolled_at,
            "renewing": lost.is_some(),
            "heartbeats": liveness.rate.word(),
            "last_heartbeat": health.as_ref().and_then(|health| health.last_heartbeat.clone()),
            "last_heartbeat_age_secs": liveness.age.map(|age| age.as_secs()),
            "heartbeat_interval_secs": host.interval().as_secs(),
            "last_failure": health.as_ref().and_then(|health| health.failure.clone()),
            "config": config,
        }),
        exit_code: if liveness.is_silent() || lost.is_some() {
            ErrorKind::Temporary.exit_code()
        } else {
            0
        },
    }
}
