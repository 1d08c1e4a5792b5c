//! `monsys-agent doctor`.

use std::fmt::Write;

use serde_json::json;

use super::Report;
use crate::cli::EnrolArgs;
use crate::doctor;
use agent_core::check::{Check, Finding};
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::escape::indented;
use agent_core::redact::redact;

/// Checks all that an enrolment needs. The exit code is that of the first thing that would stop it.
///
/// # Errors
/// None but a token on the command line.
pub(super) async fn run(args: &EnrolArgs, environment: &Environment) -> Result<Report> {
    args.refuse_token()?;
    let checks = doctor::examine(&args.flags(), environment).await;
    let count = |finding| checks.iter().filter(|c| c.finding == finding).count();
    let (bad, warnings) = (count(Finding::Bad), count(Finding::Warning));
    let mut text: String = checks
        .iter()
        .fold(String::new(), |text, c| text + &lines(c));
    let verdict = match (bad, warnings) {
        (0, 0) => "Nothing stands in the way of an enrolment.".to_owned(),
        (0, n) => format!("Nothing stands in the way of an enrolment; warnings: {n}."),
        (n, _) => format!("An enrolment would fail; failed checks: {n}."),
    };
    let _ = writeln!(text, "{verdict}");
    let rows: Vec<_> = checks
        .iter()
        .map(|check| {
            json!({
                "name": check.name,
                "finding": check.finding.word(),
                "says": redact(&check.says),
                "hint": check.hint,
            })
        })
        .collect();
    let mut report = Report::new(
        redact(&text).into_owned(),
        json!({"ok": bad == 0, "checks": rows}),
    );
    report.exit_code = checks
        .iter()
        .map(|check| check.exit_code)
        .find(|code| *code != 0)
        .unwrap_or(0);
    Ok(report)
}

fn lines(check: &Check) -> String {
    let mark = match check.finding {
        Finding::Good => "ok   ",
        Finding::Warning => "warn ",
        Finding::Bad => "FAIL ",
        Finding::Skipped => "-    ",
    };
    let mut lines = format!("{mark} {:16}  {}\n", check.name, indented(&check.says));
    if let Some(hint) = &check.hint {
        let _ = writeln!(lines, "{:22}  hint:  {}", "", indented(hint));
    }
    lines
}
