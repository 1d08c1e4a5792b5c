//! What people and programs are told: `status`, `doctor`, `--dry-run`.

use serde_json::json;

use crate::ravenxcope::Ravenxcope;
use crate::settings::{INSTALL_TOKEN, SENSOR_TOKEN};
use crate::wire;
use agent_core::check::Check;
use agent_core::enrolment::{Dialect, Plan, Preview, StatusReport};
use agent_core::error::{ErrorId, Kind as ErrorKind, Result};
use agent_core::facts::HostFacts;
use agent_core::service::{self, HealthFile, Liveness};
use agent_core::sourced::Source;
use agent_core::text::rows;
use agent_core::token::Kind;

/// How to go on after an answer was lost.
const ANEW: &str = "have a new install token made for this sensor, put it in as INSTALL_TOKEN, and run: monsys-agent enrol --dialect ravenxcope";

/// Where the service's notes are.
pub(crate) fn journal(host: &Ravenxcope<'_>) -> HealthFile {
    HealthFile::of_dialect("ravenxcope", host.file.folder(), host.environment)
}

/// Says whether this sensor is enrolled, and whether the backend hears from it. Sends nothing.
pub(crate) fn account(host: &Ravenxcope<'_>) -> StatusReport {
    let config = host.file.path().display().to_string();
    let backend = host.settings.hub_url.value.to_string();
    let id = host.id().ok();
    let lost = host.lost_answer();
    let Some(token) = &host.token else {
        let (enrolment_state, headline, next) = match lost {
            Some(mark) => (
                "unanswered",
                format!(
                    "This sensor is not enrolled: the answer to its request of {} never came.",
                    mark.asked_at()
                ),
                format!("Run the enrolment again; should it be refused with 401, {ANEW}\n"),
            ),
            None => (
                "new",
                "This sensor is not enrolled.".into(),
                "To enrol it: INSTALL_TOKEN=… monsys-agent enrol --dialect ravenxcope\n".into(),
            ),
        };
        let table = rows(&[
            ("sensor", id.unwrap_or("not given").into()),
            ("config", config.clone()),
        ]);
        return StatusReport {
            text: format!("{headline}\n{table}{next}"),
            json: json!({
                "enrolled": false,
                "standing": enrolment_state,
                "sensor_id": id,
                "hub_url": backend,
                "config": config,
            }),
            exit_code: ErrorId::NotEnrolled.kind().exit_code(),
        };
    };
    let health = journal(host).load(id.unwrap_or_default());
    let pulse = Liveness::of(health.as_ref(), &service::moment(host.environment));
    let mark = host.mark.as_ref().filter(|mark| !mark.is_explicit());
    let enrolled_at = mark.and_then(|mark| mark.enrolled_at.clone());
    let from = match &token.source {
        Source::Variable(_) => format!("{SENSOR_TOKEN} of the environment"),
        _ => "the env file".into(),
    };
    let mut table = vec![
        ("sensor", id.unwrap_or("not given").to_owned()),
        ("token", from),
        ("since", enrolled_at.clone().unwrap_or("not known".into())),
        ("heartbeat", pulse.describe(health.as_ref())),
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
        table.push(("  why", failure.cause.clone()));
        table.push(("  hint", failure.hint.clone()));
    }
    let doubt = match lost {
        Some(mark) => format!(
            "The answer to a forced enrolment, of {}, never came, so this sensor token may be dead: {ANEW} --force\n",
            mark.asked_at()
        ),
        None => String::new(),
    };
    StatusReport {
        text: format!(
            "This sensor is enrolled at {backend}.\n{}{doubt}{}",
            rows(&table),
            pulse.hint()
        ),
        json: json!({
            "enrolled": true,
            "standing": "enrolled",
            "sensor_id": id,
            "hub_url": backend,
            "hostname": mark.and_then(|mark| mark.hostname.clone()),
            "enrolled_at": enrolled_at,
            "renewing": lost.is_some(),
            "heartbeats": pulse.rate.word(),
            "last_heartbeat": health.as_ref().and_then(|health| health.last_heartbeat.clone()),
            "last_heartbeat_age_secs": pulse.age.map(|age| age.as_secs()),
            "heartbeat_interval_secs": host.interval().as_secs(),
            "last_failure": health.as_ref().and_then(|health| health.failure.clone()),
            "config": config,
        }),
        exit_code: if pulse.is_silent() || lost.is_some() {
            ErrorKind::Silent.exit_code()
        } else {
            0
        },
    }
}

/// What `doctor` finds of it.
pub(crate) fn checks(host: &Ravenxcope<'_>) -> Vec<Check> {
    let path = host.file.path();
    let is_there = if path.exists() {
        "is read"
    } else {
        "is not there yet"
    };
    let settings = format!(
        "{} {is_there}; the backend is {}",
        path.display(),
        host.settings.hub_url.value
    );
    let identity = match (host.id(), &host.token, host.lost_answer()) {
        (Err(error), ..) => Check::bad("identity", &error),
        (Ok(id), _, Some(mark)) => Check::warning(
            "identity",
            format!(
                "the answer to the request of {} for sensor {id} never came",
                mark.asked_at()
            ),
            ANEW,
        ),
        (Ok(id), Some(_), None) => Check::good("identity", format!("enrolled as sensor {id}")),
        (Ok(id), None, None) => Check::good("identity", format!("sensor {id} is not enrolled yet")),
    };
    vec![Check::good("settings", settings), identity]
}

/// What `doctor` says of the install token when none is taken.
pub(crate) fn without_secret(host: &Ravenxcope<'_>) -> Check {
    let name = "token";
    if host.token.is_none() {
        return Check::bad(name, &host.no_install_token());
    }
    match &host.settings.token {
        Some(source) => Check::warning(
            name,
            format!("an enrolled sensor needs none, and {source} holds one"),
            format!(
                "take {INSTALL_TOKEN} out of there; or use it: monsys-agent enrol --dialect ravenxcope --force"
            ),
        ),
        None => Check::good(name, "an enrolled sensor needs none"),
    }
}

/// What a run of `enrol` would send and write.
pub(crate) fn preview(
    host: &Ravenxcope<'_>,
    secret: Option<Kind>,
    force: bool,
    facts: &HostFacts,
) -> Result<Option<Preview>> {
    // A dry run tells what would be sent also before there is an install token.
    let plan = Dialect::plan(host, secret.or(Some(Kind::Enrolment)), force)?;
    if !matches!(plan, Plan::Exchange(_)) {
        return Ok(None);
    }
    let id = host.id()?;
    Ok(Some(Preview {
        url: wire::url(&host.settings.hub_url.value, id, "enroll").to_string(),
        path: wire::ENROLL,
        body: wire::facts_json(facts, host.port),
        rows: vec![
            ("sensor", id.to_owned()),
            ("config", host.file.path().display().to_string()),
        ],
        json: json!({"sensor_id": id, "config": host.file.path()}),
    }))
}
