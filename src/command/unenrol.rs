//! `monsys-agent unenrol`.

use serde_json::json;

use super::Report;
use crate::cli::UnenrolArgs;
use crate::dialects;
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::text::rows;
use dialect_monsys::{self as monsys, UnenrolOutcome};

/// Leaves the hub.
///
/// # Errors
/// See [`monsys::unenrol`].
pub(super) async fn run(args: &UnenrolArgs, environment: &Environment) -> Result<Report> {
    dialects::monsys_only("unenrol", &args.flags(), environment)?;
    let leaving = monsys::unenrol(&args.flags(), args.force, environment).await?;
    let hub = &leaving.hub_url;
    let (result, headline) = match leaving.parting {
        UnenrolOutcome::Left => ("left", format!("This host has left {hub}.")),
        UnenrolOutcome::Ended => (
            "left",
            format!("This host has left {hub}: this ended what had been interrupted."),
        ),
        UnenrolOutcome::OnlyHere => (
            "removed",
            format!("The credential is removed from this host; {hub} may still list it."),
        ),
        UnenrolOutcome::NotEnrolled => (
            "not_enrolled",
            "This host is not enrolled; nothing was sent and nothing was removed.".into(),
        ),
    };
    let again = if leaving.would_enrol_again {
        "It is told where a token is to be had, so the service would enrol it again at its next start: systemctl disable --now monsys-agent\n"
    } else {
        ""
    };
    let mut table = vec![("config", leaving.config.display().to_string())];
    if let Some(agent) = leaving.agent_id {
        table.insert(0, ("agent", agent.to_string()));
    }
    Ok(Report::new(
        format!("{headline}\n{}{again}", rows(&table)),
        json!({
            "result": result,
            "changed": leaving.changed,
            "hub_told": matches!(leaving.parting, UnenrolOutcome::Left | UnenrolOutcome::Ended),
            "agent_id": leaving.agent_id,
            "hub_url": leaving.hub_url,
            "would_enrol_again": leaving.would_enrol_again,
            "config": leaving.config,
        }),
    ))
}
