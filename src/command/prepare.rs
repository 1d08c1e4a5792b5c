//! `monsys-agent prepare`: the privileged step before the service.

use serde_json::json;

use super::Report;
use crate::cli::PrepareArgs;
use crate::dialects;
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::service::step;

/// Does the privileged step. Its failure is recorded, and `run` exits with it, so the command succeeds.
///
/// # Errors
/// None: systemd does not apply the unit's `RestartPreventExitStatus=` to a failed `ExecStartPre=`.
pub(super) async fn run(args: &PrepareArgs, environment: &Environment) -> Result<Report> {
    let flags = args.flags();
    let select = || dialects::select(&flags, environment);
    let record = step::prepare(&select, &flags, environment).await;
    let (result, text) = match (record.error(), &record.deferred) {
        (Some(error), _) => (
            "failed",
            format!("The service cannot run, and will exit with this error: {error}\n"),
        ),
        (None, Some(later)) => (
            "deferred",
            format!(
                "The service can run. A later run repeats this step: {}\n  hint: {}\n",
                later.cause, later.hint
            ),
        ),
        (None, None) => ("ready", "The service can run.\n".into()),
    };
    let exit_code = record.error().map(|error| error.exit_code());
    Ok(Report::new(
        text,
        json!({
            "result": result,
            "service_exit_code": exit_code.unwrap_or_default(),
            "failure": record.failure,
            "deferred": record.deferred,
            "not_before": record.not_before,
        }),
    ))
}
