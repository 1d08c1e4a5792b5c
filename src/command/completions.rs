//! `monsys-agent completions`.

use serde_json::json;

use super::{Report, pages};
use crate::cli::{CompletionsArgs, Shell};
use agent_core::error::Result;

/// Returns the script with which a shell completes the command line.
///
/// # Errors
/// Those of [`pages::all`].
pub(super) fn run(args: &CompletionsArgs) -> Result<Report> {
    let shell = match args.shell {
        Shell::Bash => "bash",
        Shell::Fish => "fish",
        Shell::Zsh => "zsh",
    };
    let page = pages::all()?.into_iter().find(|page| page.name == shell);
    let script = page.map(|page| page.text).unwrap_or_default();
    let json = json!({ "script": &script });
    Ok(Report::new(script, json))
}
