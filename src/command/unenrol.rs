//! `monsys-agent unenrol`.

use serde_json::json;

use super::Report;
use crate::cli::UnenrolArgs;
use crate::dialects;
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::text::rows;
use dialect_monsys::{self as monsys, UnenrolOutcome};

/// Unenrols this host.
///
/// # Errors
/// See [`monsys::unenrol`].
pub(super) async fn run(args: &UnenrolArgs, environment: &Environment) -> Result<Report> {
    dialects::monsys_only("unenrol", &args.flags(), environment)?;
    let unenrolment = Box::pin(monsys::unenrol(&args.flags(), args.force, environment)).await?;
    let hub = &unenrolment.hub_url;
    let (result, headline) = match unenrolment.outcome {
        UnenrolOutcome::Unenrolled => ("left", format!("This host is unenrolled from {hub}.")),
        UnenrolOutcome::Completed => (
            "left",
            format!(
                "This host is unenrolled from {hub}: this run completed an interrupted unenrolment."
            ),
        ),
        UnenrolOutcome::LocalOnly => (
            "removed",
            format!("The credential is removed from this host; {hub} may still list it."),
        ),
        UnenrolOutcome::NotEnrolled => (
            "not_enrolled",
            "This host is not enrolled; nothing was sent and nothing was removed.".into(),
        ),
    };
    let again = if unenrolment.would_enrol_again {
        "A source of the token is configured, so the service would enrol this host again at its next start. To prevent that: systemctl disable --now monsys-agent\n"
    } else {
        ""
    };
    let mut table = vec![("config", unenrolment.config.display().to_string())];
    if let Some(agent) = unenrolment.agent_id {
        table.insert(0, ("agent", agent.to_string()));
    }
    Ok(Report::new(
        format!("{headline}\n{}{again}", rows(&table)),
        json!({
            "result": result,
            "changed": unenrolment.changed,
            "hub_notified": matches!(unenrolment.outcome, UnenrolOutcome::Unenrolled | UnenrolOutcome::Completed),
            "agent_id": unenrolment.agent_id,
            "hub_url": unenrolment.hub_url,
            "would_enrol_again": unenrolment.would_enrol_again,
            "config": unenrolment.config,
        }),
    ))
}
