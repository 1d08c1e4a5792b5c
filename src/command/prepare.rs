//! `monsys-agent prepare`: the privileged step before the service.

use serde_json::json;

use super::Report;
use crate::cli::PrepareArgs;
use crate::dialects;
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::service::step;

/// Does the step. What it failed with is on the record, and the service ends with it, so this is no
/// failure of the command.
///
/// # Errors
/// None: a command that fails would fail the unit, whose rules for final codes do not look at it.
pub(super) async fn run(args: &PrepareArgs, environment: &Environment) -> Result<Report> {
    let flags = args.flags();
    let select = || dialects::select(&flags, environment);
    let verdict = step::prepare(&select, &flags, environment).await;
    let (result, text) = match (verdict.error(), &verdict.deferred) {
        (Some(error), _) => (
            "failed",
            format!("The service cannot run, and ends with this: {error}\n"),
        ),
        (None, Some(later)) => (
            "deferred",
            format!(
                "The service can run. To be tried again later: {}\n  hint: {}\n",
                later.cause, later.hint
            ),
        ),
        (None, None) => ("ready", "The service can run.\n".into()),
    };
    let exit_code = verdict.error().map(|error| error.exit_code());
    Ok(Report::new(
        text,
        json!({
            "result": result,
            "service_exit_code": exit_code.unwrap_or_default(),
            "failure": verdict.failure,
            "deferred": verdict.deferred,
            "not_before": verdict.not_before,
        }),
    ))
}
