//! The preview of a run of `enrol`: the request to the server and the folder that it writes to.

use agent_core::enrolment::{Dialect, Plan, Preview};
use agent_core::error::Result;
use agent_core::facts::HostFacts;
use agent_core::token::Kind;
use serde_json::json;

use crate::host_state::EnrolmentState;
use crate::mimir::Mimir;
use crate::wire;

/// Returns the preview for `--dry-run`, or `None` when the run would send nothing.
///
/// # Errors
/// As [`Dialect::plan`].
pub(crate) fn preview(
    host: &Mimir<'_>,
    secret: Option<Kind>,
    force: bool,
    facts: &HostFacts,
) -> Result<Option<Preview>> {
    let plan = Dialect::plan(host, secret.or(Some(Kind::Enrolment)), force)?;
    if !matches!(plan, Plan::Exchange(_)) {
        return Ok(None);
    }
    let key = match host.state.key()? {
        Some(_) if host.enrolment_state()? != EnrolmentState::Clone => "this host's own",
        Some(_) => "a new one: the files on this disk are another machine's",
        None => "a new one",
    };
    let folder = host.state.files.folder();
    Ok(Some(Preview {
        url: host.settings.hub_url.value.join(wire::ENROLL).to_string(),
        path: wire::ENROLL,
        is_change: true,
        body: json!({"hostname": facts.hostname}),
        rows: vec![
            ("key", key.into()),
            ("folder", folder.display().to_string()),
        ],
        json: json!({"folder": folder}),
    }))
}
