//! The status of a monsys host, for people and for programs.

use serde_json::{Value, json};

use crate::host_state::{Enrolled, EnrolmentState};
use crate::monsys::Monsys;
use crate::state::State;
use agent_core::enrolment::StatusReport;
use agent_core::error::{ErrorId, Kind, Result};
use agent_core::escape::one_line;
use agent_core::service::{self, Health, HealthFile, Liveness};
use agent_core::text::{list, rows};

/// Returns the status: whether this host is enrolled, at which hub, as which agent, and when the hub last
/// accepted a heartbeat. Sends nothing.
///
/// # Errors
/// A broken agent.toml or key.
pub(crate) fn report(host: &Monsys<'_>) -> Result<StatusReport> {
    let (paths, environment) = (&host.paths, host.environment);
    let config = paths.config.display().to_string();
    let enrolled = match host.enrolment_state()? {
        EnrolmentState::Enrolled(enrolled) => enrolled,
        EnrolmentState::New(_) => {
            return Ok(not_enrolled("new", &config, "This host is not enrolled."));
        }
        EnrolmentState::Unconfirmed(..) => {
            return Ok(not_enrolled(
                "unconfirmed",
                &config,
                "This host is not enrolled: agent.toml holds a per-agent token that no hub has confirmed.",
            ));
        }
        EnrolmentState::Clone(state) => {
            let original = state.as_ref().and_then(|state| state.hostname.as_deref());
            let headline = format!(
                "This host is not enrolled: the identity on its disk belongs to {}, which it was cloned from.",
                original.map_or("another machine".into(), |name| format!(
                    "another machine, {}",
                    one_line(name)
                ))
            );
            return Ok(not_enrolled("clone", &config, &headline));
        }
    };
    let health = HealthFile::of(&paths.state_dir, environment).load(&enrolled.agent_id.to_string());
    let liveness = Liveness::of(health.as_ref(), &service::moment(environment));
    Ok(enrolled_report(
        enrolled,
        health.as_ref(),
        &liveness,
        &config,
    ))
}

fn enrolled_report(
    enrolled: &Enrolled,
    health: Option<&Health>,
    liveness: &Liveness,
    config: &str,
) -> StatusReport {
    let state = enrolled.state.clone().unwrap_or_default();
    let key = if enrolled.key_is_lost {
        "lost: have an operator unpin it, then run `monsys-agent enrol --force`"
    } else if enrolled.is_next_key_unconfirmed {
        "present; a rotation was interrupted, and the service or `monsys-agent rotate-key` completes it"
    } else {
        "present"
    };
    let mut table = vec![
        ("agent", enrolled.agent_id.to_string()),
        ("tags", list(&enrolled.tags)),
        ("role", enrolled.role.clone().unwrap_or("none".into())),
        (
            "since",
            state.enrolled_at.clone().unwrap_or("not known".into()),
        ),
        ("heartbeat", liveness.describe(health)),
        ("key", key.into()),
        (
            "machine",
            format!(
                "this one, {}",
                state.hostname.as_deref().unwrap_or("as far as is known")
            ),
        ),
        ("config", config.into()),
    ];
    if let Some(failure) = health.and_then(|health| health.failure.as_ref()) {
        let span = match &failure.ended_at {
            Some(ended) => format!("from {} to {ended}", failure.since),
            None => format!("since {}", failure.since),
        };
        let text = format!("{} ({span}, {} tries)", failure.what, failure.tries);
        table.push(("last failure", text));
        table.push(("  cause", failure.cause.clone()));
        if failure.ended_at.is_none() {
            table.push(("  hint", failure.hint.clone()));
        }
    }
    let text = format!(
        "This host is enrolled at {}.\n{}{}{}",
        enrolled.hub_url,
        rows(&table),
        unfinished(&state),
        liveness.hint(),
    );
    let json = as_json(enrolled, health, liveness, config);
    let exit_code = if enrolled.key_is_lost {
        ErrorId::IdentityBroken.kind().exit_code()
    } else if liveness.is_silent() || state.may_be_dead() {
        Kind::Temporary.exit_code()
    } else {
        0
    };
    StatusReport {
        text,
        json,
        exit_code,
    }
}

fn as_json(
    enrolled: &Enrolled,
    health: Option<&Health>,
    liveness: &Liveness,
    config: &str,
) -> Value {
    let state = enrolled.state.clone().unwrap_or_default();
    json!({
        "enrolled": true,
        "state": "enrolled",
        "agent_id": enrolled.agent_id,
        "hub_url": enrolled.hub_url,
        "tags": enrolled.tags,
        "role": enrolled.role,
        "enrolled_at": state.enrolled_at,
        "heartbeats": liveness.rate.word(),
        "last_heartbeat": health.and_then(|health| health.last_heartbeat.clone()),
        "last_heartbeat_age_secs": liveness.age.map(|age| age.as_secs()),
        "heartbeat_interval_secs": health.map(|health| health.interval_secs),
        "last_failure": health.and_then(|health| health.failure.clone()),
        "key_present": !enrolled.key_is_lost,
        "renewing": state.renewing,
        "leaving": state.unenrolling,
        "rotating_key": enrolled.is_next_key_unconfirmed,
        "config": config,
    })
}

/// Returns the line about an interrupted run, or an empty text.
fn unfinished(state: &State) -> String {
    let interrupted = state.interrupted();
    interrupted.map_or_else(String::new, |(cause, hint)| {
        format!("Not completed: {cause}.\n  hint:  {hint}\n")
    })
}

fn not_enrolled(enrolment_state: &str, config: &str, headline: &str) -> StatusReport {
    StatusReport {
        text: format!(
            "{headline}\n{}To enrol it: {}\n",
            rows(&[("config", config.to_owned())]),
            ErrorId::NotEnrolled.hint()
        ),
        json: json!({"enrolled": false, "state": enrolment_state, "config": config}),
        exit_code: ErrorId::NotEnrolled.kind().exit_code(),
    }
}
