//! The preview of a run of `enrol`: the request to the backend and the file that it writes.

use serde_json::json;

use crate::ravenxcope::Ravenxcope;
use crate::wire;
use agent_core::enrolment::{Dialect, Plan, Preview};
use agent_core::error::Result;
use agent_core::facts::HostFacts;
use agent_core::token::Kind;

/// Returns the preview for `--dry-run`, or `None` when the run would send nothing.
///
/// # Errors
/// As [`Dialect::plan`].
pub(crate) fn preview(
    host: &Ravenxcope<'_>,
    secret: Option<Kind>,
    force: bool,
    facts: &HostFacts,
) -> Result<Option<Preview>> {
    // A dry run shows the request also before there is an install token.
    let plan = Dialect::plan(host, secret.or(Some(Kind::Enrolment)), force)?;
    if !matches!(plan, Plan::Exchange(_)) {
        return Ok(None);
    }
    let id = host.id()?;
    Ok(Some(Preview {
        url: wire::url(&host.settings.hub_url.value, id, "enroll").to_string(),
        path: wire::ENROLL,
        is_change: true,
        body: wire::facts_json(facts, host.port),
        rows: vec![
            ("sensor", id.to_owned()),
            ("config", host.file.path().display().to_string()),
        ],
        json: json!({"sensor_id": id, "config": host.file.path()}),
    }))
}
