//! `monsys-agent uninstall`.

use std::fmt::Write;

use serde_json::{Value, json};

use super::Report;
use crate::cli::UninstallArgs;
use crate::install;
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::escape::{indented, one_line};

/// Undoes what `install` did.
///
/// # Errors
/// See [`install::uninstall`].
pub(super) async fn run(args: &UninstallArgs, environment: &Environment) -> Result<Report> {
    let done = install::uninstall(&args.paths.flags(), args.purge, environment).await?;
    let changed = !done.removed.is_empty();
    let mut text = String::from(match (changed, done.remaining.is_empty()) {
        (true, _) => "Uninstalled monsys-agent. Removed or restored:\n",
        (false, true) => "Nothing to uninstall: there is no install record.\n",
        (false, false) => "Nothing more can be uninstalled.\n",
    });
    for what in &done.removed {
        let _ = writeln!(text, "  - {}", one_line(what));
    }
    for (what, cause) in &done.remaining {
        let _ = writeln!(text, "Not removed: {}: {}", one_line(what), indented(cause));
    }
    if !done.kept.is_empty() {
        text.push_str(
            "The identity of this host stays, so that it can enrol as the same agent again:\n",
        );
        let mut remove = String::from("To remove it too: rm");
        for path in &done.kept {
            let _ = writeln!(text, "  - {}", one_line(&path.to_string_lossy()));
            let _ = write!(remove, " {}", path.display());
        }
        let _ = writeln!(text, "{remove}");
    }
    if done.forgets_agent {
        text.push_str("The hub still lists this agent, until an operator removes it there. To avoid that, run `monsys-agent unenrol` before an uninstallation.\n");
    }
    let remaining: Vec<Value> = done
        .remaining
        .iter()
        .map(|(what, cause)| json!({"what": what, "cause": cause}))
        .collect();
    Ok(Report::new(
        text,
        json!({
            "result": if changed { "uninstalled" } else { "unchanged" },
            "changed": changed,
            "taken": done.removed,
            "left": remaining,
            "kept": done.kept,
            "forgets_agent": done.forgets_agent,
        }),
    ))
}
