//! `monsys-agent run`.

use serde_json::json;

use super::Report;
use crate::cli::{PREPARED, RunArgs};
use crate::dialects;
use agent_core::enrolment;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::service::{step, until_stopped};

/// Sends heartbeats until it is stopped. Where one user runs everything, it does the privileged step
/// first and executes itself anew, so that no secret stays in memory; else it ends with what the step
/// failed with.
///
/// # Errors
/// See [`dialect::Dialect::step`] and [`dialect::Dialect::serve`].
pub(super) async fn run(args: &RunArgs, environment: &Environment) -> Result<Report> {
    let flags = args.flags();
    let select = || dialects::select(&flags, environment);
    if let Some(user) = args.user.as_deref().filter(|_| !args.is_prepared) {
        let Some(verdict) =
            until_stopped(async { Ok(step::prepare(&select, &flags, environment).await) }).await?
        else {
            return Ok(stopped());
        };
        if let Some(error) = verdict.error() {
            return Err(error);
        }
        again(Some(user), environment)?;
    }
    let host = dialects::open(&flags, environment)?;
    if host.has_service() && !args.is_prepared {
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
            again(None, environment)?;
        }
    }
    drop(host);
    dialects::open(&flags, environment)?.serve().await?;
    Ok(stopped())
}

/// Executes this program anew, which returns only when it cannot be done.
fn again(user: Option<&str>, environment: &Environment) -> Result<()> {
    let Some(cause) = environment.execute_again(user, PREPARED)? else {
        return Ok(());
    };
    Err(Error::new(ErrorId::Internal, cause.to_string())
        .about("executing the program anew, without the secret in its memory"))
}

fn stopped() -> Report {
    Report::new(String::new(), json!({"result": "stopped"}))
}
