//! `monsys-agent uninstall`.

use std::fmt::Write;

use serde_json::{Value, json};

use super::Report;
use crate::cli::UninstallArgs;
use crate::install;
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::escape::{indented, one_line};

/// Takes back what `install` did.
///
/// # Errors
/// See [`install::uninstall`].
pub(super) async fn run(args: &UninstallArgs, environment: &Environment) -> Result<Report> {
    let done = install::uninstall(&args.paths.flags(), args.purge, environment).await?;
    let changed = !done.taken.is_empty();
    let mut text = String::from(match (changed, done.left.is_empty()) {
        (true, _) => "Uninstalled monsys-agent. Taken back:\n",
        (false, true) => "Nothing to take back: there is no receipt of an installation.\n",
        (false, false) => "Nothing more can be taken back.\n",
    });
    for what in &done.taken {
        let _ = writeln!(text, "  - {}", one_line(what));
    }
    for (what, cause) in &done.left {
        let _ = writeln!(text, "Stays: {}: {}", one_line(what), indented(cause));
    }
    if !done.kept.is_empty() {
        text.push_str("This host's identity stays, so that it can come back as the same agent:\n");
        let mut remove = String::from("To remove it too: rm");
        for path in &done.kept {
            let _ = writeln!(text, "  - {}", one_line(&path.to_string_lossy()));
            let _ = write!(remove, " {}", path.display());
        }
        let _ = writeln!(text, "{remove}");
    }
    if done.forgets_agent {
        text.push_str("The hub still lists this agent: an operator removes it there. Another time, run `monsys-agent unenrol` first.\n");
    }
    let left: Vec<Value> = done
        .left
        .iter()
        .map(|(what, cause)| json!({"what": what, "cause": cause}))
        .collect();
    Ok(Report::new(
        text,
        json!({
            "result": if changed { "uninstalled" } else { "unchanged" },
            "changed": changed,
            "taken": done.taken,
            "left": left,
            "kept": done.kept,
            "forgets_agent": done.forgets_agent,
        }),
    ))
}
