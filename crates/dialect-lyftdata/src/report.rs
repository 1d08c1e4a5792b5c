//! Where this host stands to a `LyftData` server, and what a run would do, told.

use serde_json::json;

use crate::exchange::ENROLL;
use crate::files::EnrolmentState;
use crate::lyftdata::{Lyftdata, missing};
use agent_core::check::Check;
use agent_core::enrolment::{Dialect, Plan, Preview, StatusReport};
use agent_core::error::{ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::text::rows;
use agent_core::token::Kind;

pub(crate) fn preview(
    host: &Lyftdata<'_>,
    secret: Option<Kind>,
    force: bool,
    facts: &HostFacts,
) -> Result<Option<Preview>> {
    // One without a secret has yet to be given it.
    let plan = Dialect::plan(host, secret.or(Some(Kind::Enrolment)), force)?;
    if !matches!(plan, Plan::Exchange(_)) {
        return Ok(None);
    }
    let body = host.facts(facts).into_iter();
    Ok(Some(Preview {
        url: host.settings.hub_url.value.join(ENROLL).to_string(),
        path: ENROLL,
        body: body.map(|(name, value)| (name.to_owned(), value)).collect(),
        rows: vec![
            ("worker", host.name()?.to_owned()),
            (
                "proof",
                "HMAC-SHA-256 of the secret over a nonce and the name".into(),
            ),
            ("jobs dir", host.jobs_dir.display().to_string()),
        ],
        json: json!({"worker_name": host.name, "jobs_dir": host.jobs_dir}),
    }))
}

pub(crate) fn account(host: &Lyftdata<'_>) -> Result<StatusReport> {
    let dir = host.jobs_dir.display().to_string();
    let hub = host.settings.hub_url.value.to_string();
    Ok(match host.enrolment_state()? {
        EnrolmentState::Enrolled(worker) => StatusReport {
            text: format!(
                "This host is enrolled at {hub} as a LyftData worker.\n{}",
                rows(&[("worker", worker.clone()), ("jobs dir", dir)])
            ),
            json: json!({
                "enrolled": true, "standing": "enrolled", "dialect": "lyftdata",
                "hub_url": hub, "worker": worker, "jobs_dir": host.jobs_dir,
            }),
            exit_code: 0,
        },
        enrolment_state => {
            let (word, cause) = match enrolment_state {
                EnrolmentState::Unfinished => (
                    "unfinished",
                    "the server has confirmed it, and an interrupted run has not put all in place",
                ),
                _ => ("new", "there is no worker's id and no API key"),
            };
            StatusReport {
                text: format!(
                    "This host is not enrolled: {cause}.\n{}To enrol it: {}\n",
                    rows(&[("jobs dir", dir)]),
                    "LYFTDATA_AUTO_ENROLLMENT_KEY=… monsys-agent enrol --dialect lyftdata"
                ),
                json: json!({
                    "enrolled": false, "standing": word, "dialect": "lyftdata",
                    "hub_url": hub, "jobs_dir": host.jobs_dir,
                }),
                exit_code: ErrorId::NotEnrolled.kind().exit_code(),
            }
        }
    })
}

pub(crate) fn checks(host: &Lyftdata<'_>) -> Vec<Check> {
    let hub = &host.settings.hub_url.value;
    let name = match host.name() {
        Ok(name) => Check::good("settings", format!("worker {name} of {hub}")),
        Err(error) => Check::bad("settings", &error),
    };
    let identity = match host.enrolment_state() {
        Ok(EnrolmentState::Enrolled(worker)) => {
            Check::good("identity", format!("enrolled as worker {worker}"))
        }
        Ok(EnrolmentState::Unfinished) => Check::warning(
            "identity",
            "an interrupted run has not put all in place",
            "monsys-agent enrol --dialect lyftdata",
        ),
        Ok(EnrolmentState::New) => Check::good("identity", "this host is not enrolled yet"),
        Err(error) => Check::bad("identity", &error),
    };
    vec![name, identity]
}

pub(crate) fn without_secret(host: &Lyftdata<'_>) -> Check {
    match host.enrolment_state() {
        Ok(EnrolmentState::New) => Check::bad("token", &missing()),
        Ok(_) => Check::good("token", "an enrolled worker needs none"),
        Err(_) => Check::skipped("token", "it is not known whether this host is enrolled"),
    }
}
