//! `monsys-agent run`.

use serde_json::json;

use super::Report;
use crate::cli::PathArgs;
use crate::error::Result;
use crate::service;
use crate::world::World;

/// Sends heartbeats until it is stopped.
///
/// # Errors
/// See [`service::run`].
pub(super) async fn run(args: &PathArgs, world: &World) -> Result<Report> {
    service::run(&args.flags(), world).await?;
    Ok(Report::new(String::new(), json!({"result": "stopped"})))
}
