//! `monsys-agent run`.

use serde_json::json;

use super::{Report, first_process};
use crate::cli::{PREPARED, RunArgs};
use crate::dialects;
use agent_core::enrolment;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::service::{step, until_stopped};

/// Sends heartbeats until the process is stopped.
///
/// If one user runs everything, first does the privileged step and executes the program again, so that no
/// secret stays in memory. Otherwise, returns the recorded failure of the privileged step.
///
/// # Errors
/// As [`step`](agent_core::enrolment::Dialect::step) and
/// [`serve`](agent_core::enrolment::Dialect::serve).
pub(super) async fn run(args: &RunArgs, environment: &Environment) -> Result<Report> {
    let flags = args.flags();
    let select = || dialects::select(&flags, environment);
    if let Some(user) = args.user.as_deref().filter(|_| !args.is_prepared) {
        let Some(record) =
            until_stopped(async { Ok(step::prepare(&select, &flags, environment).await) }).await?
        else {
            return Ok(stopped());
        };
        if let Some(error) = record.error() {
            return Err(error);
        }
        execute_again(Some(user), environment)?;
    }
    let host = dialects::open(&flags, environment)?;
    if !host.has_service() {
        // It only enrols, so a signal ends it as it ends an enrolment.
        let enrolled = async { host.serve().await.map(|()| stopped()) };
        return first_process::until_signal(enrolled).await;
    }
    if !args.is_prepared {
        if !step::is_own(&*host) || step::was_done_for_us(environment) {
            step::check(&*host, environment)?;
        } else if host.steps_apart() {
            let Some(later) = until_stopped(host.step(true)).await? else {
                return Ok(stopped());
            };
            if let Some(later) = later {
                tracing::warn!("{}: {}", later.what(), later.cause());
            }
            if let Some(left) =
                enrolment::scrub_again(&*dialects::open(&flags, environment)?, environment)
            {
                tracing::warn!("{}: {}", left.what(), left.cause());
            }
            execute_again(None, environment)?;
        }
    }
    drop(host);
    dialects::open(&flags, environment)?.serve().await?;
    Ok(stopped())
}

/// Executes this program again. Returns only if that fails, or is not needed.
fn execute_again(user: Option<&str>, environment: &Environment) -> Result<()> {
    let Some(cause) = environment.execute_again(user, PREPARED)? else {
        return Ok(());
    };
    Err(Error::new(ErrorId::Internal, cause.to_string())
        .about("executing the program again, without the secret in its memory"))
}

fn stopped() -> Report {
    Report::new(String::new(), json!({"result": "stopped"}))
}
