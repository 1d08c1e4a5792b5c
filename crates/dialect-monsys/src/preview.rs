//! The preview of a run of `enrol`: the request to the hub and the files that it writes.

use serde_json::json;

use crate::host_state::EnrolmentState;
use crate::monsys::Monsys;
use crate::plan::Purpose;
use crate::wire;
use agent_core::enrolment::Preview;
use agent_core::error::Result;
use agent_core::facts::HostFacts;
use agent_core::token::Kind;

/// Returns the preview for `--dry-run`, or `None` when the run would send nothing.
///
/// # Errors
/// As [`crate::plan::plan`].
pub(crate) fn preview(
    host: &Monsys<'_>,
    secret: Option<Kind>,
    force: bool,
    facts: &HostFacts,
) -> Result<Option<Preview>> {
    // A new host most likely gets an enrolment token.
    let secret = match host.enrolment_state()? {
        EnrolmentState::New(_) | EnrolmentState::Clone(_) => secret.or(Some(Kind::Enrolment)),
        _ => secret,
    };
    let request = host.planned_request(secret, force)?;
    let own = &request.own;
    let mut body = wire::facts_json(facts, host.state()?.snapshot.machine.machine_id.as_deref());
    body["tags"] = json!(own.tags);
    body["role"] = json!(own.role);
    let key = if request.is_clone {
        "a new one: the identity on this disk is another machine's"
    } else {
        "this host's own"
    };
    let own_tags = if own.tags.is_empty() {
        "none".into()
    } else {
        own.tags.join(", ")
    };
    let role = own.role.clone();
    let path = request.call.path();
    Ok(Some(Preview {
        url: host.settings.hub_url.value.join(path).to_string(),
        path,
        is_change: request.purpose != Purpose::Confirmation,
        body,
        rows: vec![
            ("key", key.into()),
            (
                "tags",
                format!("the token's default tags, then: {own_tags}"),
            ),
            (
                "role",
                role.unwrap_or("the token's default role, if it has one".into()),
            ),
            ("config", host.paths.config.display().to_string()),
            ("state", host.paths.state_dir.display().to_string()),
        ],
        json: json!({
            "tags": own.tags,
            "role": own.role,
            "config": host.paths.config,
            "state_dir": host.paths.state_dir,
        }),
    }))
}
