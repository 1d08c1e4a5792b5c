//! The preview of a run of `enrol`: the request to the server and the folder that it writes to.

use serde_json::{Value, json};

use crate::exchange::ENROLL;
use crate::lyftdata::Lyftdata;
use agent_core::enrolment::{Dialect, Plan, Preview};
use agent_core::error::Result;
use agent_core::facts::HostFacts;
use agent_core::inserted::inserted;
use agent_core::token::Kind;

/// Returns the preview for `--dry-run`, or `None` when the run would send nothing.
///
/// # Errors
/// As [`Dialect::plan`].
pub(crate) fn preview(
    host: &Lyftdata<'_>,
    secret: Option<Kind>,
    force: bool,
    facts: &HostFacts,
) -> Result<Option<Preview>> {
    // A dry run shows the request also before there is a secret.
    let plan = Dialect::plan(host, secret.or(Some(Kind::Enrolment)), force)?;
    if !matches!(plan, Plan::Exchange(_)) {
        return Ok(None);
    }
    let body = host.facts(facts).into_iter();
    let body = body.map(|(name, value)| (name.to_owned(), value));
    Ok(Some(Preview {
        url: host.settings.hub_url.value.join(ENROLL).to_string(),
        path: ENROLL,
        is_change: true,
        body: Value::Object(inserted(body)),
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
