//! The first process of a container: the kernel does not end it by a signal for which it has no handler
//! (`pid_namespaces(7)`), so a command that waits would wait until SIGKILL.

use serde_json::json;

use super::Report;
use agent_core::error::Result;
use agent_core::service;

/// The exit codes of shells for a process that was ended by a signal: 128 and the signal's number.
const ENDED_BY: u8 = 128;

/// Runs a command that handles no signals of its own, so that SIGTERM or SIGINT ends it in the first process of a
/// namespace too. The next run completes what this one began, as after SIGKILL.
///
/// # Errors
/// The error of the command, or signals that cannot be received.
pub(super) async fn until_signal(command: impl Future<Output = Result<Report>>) -> Result<Report> {
    if std::process::id() != 1 {
        return command.await;
    }
    tokio::select! {
        biased;
        stopped = stopped() => stopped,
        result = command => result,
    }
}

/// Waits for SIGTERM or SIGINT, and returns the report of a command that the signal has ended.
async fn stopped() -> Result<Report> {
    let signal = service::stop_signal().await?;
    tracing::warn!("ended by {signal}: the same command completes what this one began");
    let json = json!({"result": "stopped", "signal": signal.as_str()});
    Ok(Report {
        exit_code: ENDED_BY.saturating_add(u8::try_from(signal as i32).unwrap_or_default()),
        ..Report::new(String::new(), json)
    })
}
