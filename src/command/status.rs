//! `monsys-agent status`.

use serde_json::json;

use super::{Report, list, rows};
use crate::cli::PathArgs;
use crate::enrolment::{Paths, Standing};
use crate::error::{Error, ErrorId, Result};
use crate::settings::Settings;
use crate::store::state::State;
use crate::world::World;

/// Says whether this host is enrolled, where, and as what. Sends nothing.
///
/// # Errors
/// A broken agent.toml or key.
pub(super) fn run(args: &PathArgs, world: &World) -> Result<Report> {
    let settings = Settings::resolve(&args.flags(), world).map_err(for_reading)?;
    let paths = Paths::of(&settings, world);
    let state = State::load(&paths.state_dir)?;
    let config = paths.config.display().to_string();
    let enrolled = match Standing::of(&settings, &paths, world)? {
        Standing::Enrolled(enrolled) => enrolled,
        Standing::New(_) => {
            return Ok(not_enrolled("new", &config, "This host is not enrolled."));
        }
        Standing::Unconfirmed(..) => {
            return Ok(not_enrolled(
                "unconfirmed",
                &config,
                "This host is not enrolled: agent.toml holds a per-agent token that no hub has confirmed.",
            ));
        }
        Standing::Clone(state) => {
            let original = state.and_then(|state| state.hostname);
            let headline = format!(
                "This host is not enrolled: the identity on its disk belongs to {}, which it was cloned from.",
                original
                    .as_deref()
                    .map_or("another machine".into(), |name| format!(
                        "another machine, {name}"
                    ))
            );
            return Ok(not_enrolled("clone", &config, &headline));
        }
    };
    let state = state.unwrap_or_default();
    let unknown = || "not known".to_owned();
    let key = if enrolled.key_is_lost {
        "lost: have an operator unpin it, then run `monsys-agent enrol --force`"
    } else {
        "present"
    };
    let renewal = if state.renewing {
        "A forced enrolment was interrupted, so the credential may be dead. To end it: monsys-agent enrol\n"
    } else {
        ""
    };
    let text = format!(
        "This host is enrolled at {}.\n{}{renewal}",
        enrolled.hub_url,
        rows(&[
            ("agent", enrolled.agent_id.to_string()),
            ("tags", list(&enrolled.tags)),
            ("role", enrolled.role.clone().unwrap_or("none".into())),
            ("since", state.enrolled_at.clone().unwrap_or_else(unknown)),
            (
                "heartbeat",
                state.last_heartbeat.clone().unwrap_or("none yet".into())
            ),
            ("key", key.into()),
            (
                "machine",
                format!(
                    "this one, {}",
                    state.hostname.as_deref().unwrap_or("as far as is known")
                ),
            ),
            ("config", config.clone()),
        ])
    );
    let mut report = Report::new(
        text,
        json!({
            "enrolled": true,
            "standing": "enrolled",
            "agent_id": enrolled.agent_id,
            "hub_url": enrolled.hub_url,
            "tags": enrolled.tags,
            "role": enrolled.role,
            "enrolled_at": state.enrolled_at,
            "last_heartbeat": state.last_heartbeat,
            "key_present": !enrolled.key_is_lost,
            "renewing": state.renewing,
            "config": config,
        }),
    );
    if enrolled.key_is_lost {
        report.exit_code = ErrorId::IdentityBroken.kind().exit_code();
    }
    Ok(report)
}

/// Nothing is written here, so what could not be replaced is only what could not be read.
fn for_reading(error: Error) -> Error {
    if error.id() != ErrorId::ConfigUnwritable {
        return error;
    }
    let subject = error.subject().unwrap_or_default().to_owned();
    Error::new(ErrorId::Unreadable, error.why())
        .about(subject)
        .mend(error.next_step())
}

fn not_enrolled(standing: &str, config: &str, headline: &str) -> Report {
    Report {
        text: format!(
            "{headline}\n{}To enrol it: {}\n",
            rows(&[("config", config.to_owned())]),
            ErrorId::NotEnrolled.mend()
        ),
        json: json!({"enrolled": false, "standing": standing, "config": config}),
        exit_code: ErrorId::NotEnrolled.kind().exit_code(),
    }
}
