//! `run`: the life after the enrolment. A signed heartbeat on the hub's interval, for ever.
//!
//! `rhythm` keeps the beat and `pace` chooses the pauses; `agent` is the host that it is kept
//! for; `notify` and `signals` are the service manager's side, `teller` the log, and
//! `health` what `status` reads.

mod alarm;
mod health;
mod notify;
mod pace;
mod pulse;
mod rhythm;
mod signals;
pub mod step;
mod teller;
pub mod vitals;

pub use health::Occasion;
pub use health::{FILE as HEALTH_FILE, Failure, Health, Journal, SinceBoot};
use notify::Notify;
pub use pulse::{Pulse, Rate};
pub use rhythm::{Beat, Host, Miss};
pub use signals::until_stopped;
pub use vitals::Meter;

use crate::clock::Moment;
use crate::environment::World;
use crate::error::Result;
use alarm::Alarm;
use signals::Signals;

/// Keeps the rhythm of the host that `admit` gives, which may take as long as an enrolment does,
/// until SIGTERM or SIGINT.
///
/// # Errors
/// What `admit` ends with, and what ends the host's heartbeats for good.
pub async fn keep<H: Host>(world: &World, admit: impl AsyncFnOnce() -> Result<H>) -> Result<()> {
    let mut signals = Signals::listen()?;
    let mut notify = Notify::of(world);
    let mut host = tokio::select! {
        biased;
        () = signals.stop() => return Ok(()),
        admitted = admit() => admitted?,
    };
    let who = host.describe();
    tracing::info!("{who}: a heartbeat every {} s", host.interval().as_secs());
    notify.ready(&who);
    let alarm = Alarm::new();
    let ended = rhythm::keep(&mut host, &mut signals, &mut notify, &alarm, world).await;
    notify.stopping();
    ended
}

/// Sends the heartbeats of `host` without a service manager and without signals, for tests in paused time.
///
/// # Errors
/// What ends the host's heartbeats for good.
#[doc(hidden)]
pub async fn keep_alone(host: &mut impl Host, world: &World) -> Result<()> {
    let (mut signals, mut notify) = (Signals::default(), Notify::default());
    rhythm::keep(host, &mut signals, &mut notify, &Alarm::default(), world).await
}

/// The present moment, in the boot that the service and `status` agree on.
#[must_use]
pub fn moment(world: &World) -> Moment {
    world.moment(&step::boot_id(world))
}

#[cfg(test)]
mod tests;
