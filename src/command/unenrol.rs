//! `monsys-agent unenrol`.

use serde_json::json;

use super::Report;
use crate::cli::UnenrolArgs;
use crate::dialects;
use agent_core::environment::World;
use agent_core::error::Result;
use agent_core::text::rows;
use dialect_monsys::{self as monsys, Parting};

/// Leaves the hub.
///
/// # Errors
/// See [`monsys::unenrol`].
pub(super) async fn run(args: &UnenrolArgs, world: &World) -> Result<Report> {
    dialects::monsys_only("unenrol", &args.flags(), world)?;
    let leaving = monsys::unenrol(&args.flags(), args.force, world).await?;
    let hub = &leaving.hub_url;
    let (result, headline) = match leaving.parting {
        Parting::Left => ("left", format!("This host has left {hub}.")),
        Parting::Ended => (
            "left",
            format!("This host has left {hub}: this ended what had been interrupted."),
        ),
        Parting::OnlyHere => (
            "removed",
            format!("The credential is removed from this host; {hub} may still list it."),
        ),
        Parting::NotEnrolled => (
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
            "hub_told": matches!(leaving.parting, Parting::Left | Parting::Ended),
            "agent_id": leaving.agent_id,
            "hub_url": leaving.hub_url,
            "would_enrol_again": leaving.would_enrol_again,
            "config": leaving.config,
        }),
    ))
}
