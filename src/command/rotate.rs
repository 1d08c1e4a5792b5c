//! `monsys-agent rotate-token` and `monsys-agent rotate-key`.

use serde_json::json;

use super::Report;
use crate::cli::{RotateKeyArgs, RotateTokenArgs};
use crate::dialects;
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::text::rows;
use dialect_monsys::{self as monsys, Rotation};

/// Takes a new per-agent token.
///
/// # Errors
/// See [`monsys::rotate_token`].
pub(super) async fn token(args: &RotateTokenArgs, environment: &Environment) -> Result<Report> {
    dialects::monsys_only("rotate-token", &args.flags(), environment)?;
    let rotation = monsys::rotate_token(&args.flags(), environment).await?;
    let headline = if rotation.changed {
        "The hub takes the new token, and agent.toml holds it now."
    } else {
        "The hub takes this token, and agent.toml held it already."
    };
    Ok(report(headline, "token_rotated", &rotation))
}

/// Makes a new signing key.
///
/// # Errors
/// See [`monsys::rotate_key`].
pub(super) async fn key(args: &RotateKeyArgs, environment: &Environment) -> Result<Report> {
    dialects::monsys_only("rotate-key", &args.flags(), environment)?;
    let rotation = monsys::rotate_key(&args.flags(), environment).await?;
    let headline = if rotation.was_begun {
        "The hub has this host's new key pinned: this ended a rotation that had been interrupted."
    } else {
        "The hub has this host's new key pinned."
    };
    Ok(report(headline, "key_rotated", &rotation))
}

fn report(headline: &str, result: &str, rotation: &Rotation) -> Report {
    let table = rows(&[
        ("agent", rotation.agent_id.to_string()),
        ("hub", rotation.hub_url.clone()),
        ("config", rotation.config.display().to_string()),
    ]);
    Report::new(
        format!("{headline}\n{table}A running service takes it up by itself.\n"),
        json!({
            "result": result,
            "changed": rotation.changed,
            "agent_id": rotation.agent_id,
            "hub_url": rotation.hub_url,
            "config": rotation.config,
        }),
    )
}
