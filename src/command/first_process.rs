//! The first process of a container: the kernel does not end it by a signal for which it has no handler
//! (`pid_namespaces(7)`), so a command that waits would wait until SIGKILL.

use serde_json::json;

use super::Report;
use agent_core::error::Result;
use agent_core::service;

/// The exit codes of shells for a process that was ended by a signal: 128 and the signal's number.
const ENDED_BY: u8 = 128;

/// Returns whether this process is the first one of its namespace.
pub(super) fn is_this() -> bool {
    std::process::id() == 1
}

/// Waits for SIGTERM or SIGINT, and returns the report of a command that the signal has ended. The next run completes
/// what this one began, as after SIGKILL.
///
/// # Errors
/// Signals that cannot be received.
pub(super) async fn stopped() -> Result<Report> {
    let signal = service::stop_signal().await?;
    tracing::warn!("ended by {signal}: the same command completes what this one began");
    let json = json!({"result": "stopped", "signal": signal.as_str()});
    Ok(Report {
        exit_code: ENDED_BY.saturating_add(u8::try_from(signal as i32).unwrap_or_default()),
        ..Report::new(String::new(), json)
    })
}
