//! `run`: the life after the enrolment. A signed heartbeat on the hub's interval, for ever.
//!
//! `rhythm` keeps the beat and `pace` chooses the pauses; `agent` is the host that it is kept
//! for; `notify` and `signals` are the service manager's side, `teller` the log, and
//! `health` what `status` reads.

mod backoff;
mod failure_log;
mod health;
mod heartbeat_loop;
mod liveness;
mod notify;
mod signals;
pub mod step;
mod timer;
pub mod vitals;

pub use health::SaveReason;
pub use health::{FILE as HEALTH_FILE, Failure, Health, HealthFile, SinceBoot};
pub use heartbeat_loop::{HeartbeatFailure, HeartbeatOutcome, ServiceHost};
pub use liveness::{Liveness, Rate};
use notify::Notify;
pub use signals::until_stopped;
pub use vitals::Meter;

use crate::clock::Moment;
use crate::environment::Environment;
use crate::error::Result;
use signals::Signals;
use timer::WakeTimer;

/// Keeps the rhythm of the host that `admit` gives, which may take as long as an enrolment does,
/// until SIGTERM or SIGINT.
///
/// # Errors
/// What `admit` ends with, and what ends the host's heartbeats for good.
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
    let alarm = WakeTimer::new();
    let ended =
        heartbeat_loop::run(&mut host, &mut signals, &mut notify, &alarm, environment).await;
    notify.stopping();
    ended
}

/// Sends the heartbeats of `host` without a service manager and without signals, for tests in paused time.
///
/// # Errors
/// What ends the host's heartbeats for good.
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

/// The present moment, in the boot that the service and `status` agree on.
#[must_use]
pub fn moment(environment: &Environment) -> Moment {
    environment.moment(&step::boot_id(environment))
}

#[cfg(test)]
mod tests;
