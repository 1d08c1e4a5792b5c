//! `monsys-agent run`.

use serde_json::json;

use super::Report;
use crate::cli::RunArgs;
use crate::dialect;
use crate::error::Result;
use crate::world::World;

/// Sends heartbeats until it is stopped.
///
/// # Errors
/// See [`dialect::Dialect::serve`].
pub(super) async fn run(args: &RunArgs, world: &World) -> Result<Report> {
    let flags = args.flags();
    dialect::open(&flags, world)?.serve().await?;
    Ok(Report::new(String::new(), json!({"result": "stopped"})))
}
