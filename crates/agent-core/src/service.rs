//! The service (`run`), which sends a signed heartbeat on the hub's interval after the enrolment.
//!
//! `heartbeat_loop` sends the heartbeats and `backoff` chooses the pauses. [`ServiceHost`] is the interface of
//! a dialect's host. `notify` and `signals` connect to the service manager, `failure_log` writes the log, and
//! `health` is the file that `status` reads.

mod backoff;
mod failure_log;
mod health;
mod heartbeat;
mod heartbeat_loop;
mod liveness;
mod notify;
mod signals;
pub mod step;
mod timer;
pub mod vitals;

pub use health::SaveReason;
pub use health::{FILE as HEALTH_FILE, Failure, Health, HealthFile, SinceBoot};
pub use heartbeat::{HeartbeatFailure, HeartbeatOutcome, ServiceHost};
pub use liveness::{Liveness, Rate};
use notify::Notify;
pub use signals::{stop_signal, until_stopped};
pub use vitals::Meter;

use crate::clock::Moment;
use crate::environment::Environment;
use crate::error::Result;
use signals::Signals;
use timer::WakeTimer;

/// Sends the heartbeats of the host that `admit` returns, until SIGTERM or SIGINT. `admit` may take as long as an
/// enrolment does.
///
/// # Errors
/// The error of `admit`, and the error that ends the heartbeats, for instance a host that is not enrolled any
/// more.
pub async fn run_heartbeats<H: ServiceHost>(
    environment: &Environment,
    admit: impl AsyncFnOnce() -> Result<H>,
) -> Result<()> {
    let mut signals = Signals::listen()?;
    let mut notify = Notify::of(environment);
    let mut host = tokio::select! {
        biased;
        () = signals.stop() => return Ok(()),
        admitted = admit() => admitted?,
    };
    let who = host.describe();
    tracing::info!("{who}: a heartbeat every {} s", host.interval().as_secs());
    notify.ready(&who);
    let timer = WakeTimer::new();
    let ended =
        heartbeat_loop::run(&mut host, &mut signals, &mut notify, &timer, environment).await;
    notify.stopping();
    ended
}

/// Reports to the service manager that the service has started and has nothing to do. A service of `Type=notify`
/// (systemd.service(5)) that ends before that report has failed, whatever its exit code.
pub fn report_idle(environment: &Environment, status: &str) {
    Notify::of(environment).ready(status);
}

/// Sends the heartbeats of `host` without a service manager and without signals, for tests in paused time.
///
/// # Errors
/// The error that ends the heartbeats.
#[doc(hidden)]
pub async fn run_heartbeats_alone(
    host: &mut impl ServiceHost,
    environment: &Environment,
) -> Result<()> {
    let (mut signals, mut notify) = (Signals::default(), Notify::default());
    heartbeat_loop::run(
        host,
        &mut signals,
        &mut notify,
        &WakeTimer::default(),
        environment,
    )
    .await
}

/// Returns the present moment, with the boot id that the service and `status` both use.
#[must_use]
pub fn moment(environment: &Environment) -> Moment {
    environment.moment(&step::boot_id(environment))
}

#[cfg(test)]
mod tests;
