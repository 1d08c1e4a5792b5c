//! `run`: the life after the enrolment. A signed heartbeat on the hub's interval, for ever.
//!
//! `rhythm` keeps the beat and `pace` chooses the pauses; `agent` is the host that it is kept
//! for; `notify` and `signals` are the service manager's side, `teller` the log, and
//! `health` what `status` reads.

mod agent;
mod alarm;
mod health;
pub(crate) mod hub_clock;
mod notify;
mod on_disk;
mod pace;
mod pulse;
mod rhythm;
mod signals;
pub mod step;
mod teller;
pub(crate) mod vitals;
mod wire;

pub(crate) use health::Occasion;
pub use health::{FILE as HEALTH_FILE, Failure, Health, Journal, SinceBoot};
use notify::Notify;
pub use pulse::{Pulse, Rate};
pub(crate) use rhythm::{Beat, Host, Miss};
pub use signals::until_stopped;
pub(crate) use vitals::Meter;

#[cfg(doc)]
use crate::error::ErrorId;
use crate::error::Result;
use crate::hub::client::Client;
use crate::settings::Flags;
use crate::world::World;
use crate::world::clock::Moment;
use agent::Agent;
use alarm::Alarm;
use signals::Signals;

/// Sends heartbeats of an enrolled host until SIGTERM or SIGINT.
///
/// # Errors
/// [`ErrorId::NotEnrolled`] when there is no credential, or it is taken away meanwhile;
/// [`ErrorId::StepNeeded`]. No heartbeat that fails is one.
pub async fn run(flags: &Flags, world: &World) -> Result<()> {
    keep(world, async || Agent::<Client>::load(flags, world)).await
}

/// Keeps the rhythm of the host that `admit` gives, which may take as long as an enrolment does,
/// until SIGTERM or SIGINT.
///
/// # Errors
/// What `admit` ends with, and what ends the host's heartbeats for good.
pub(crate) async fn keep<H: Host>(
    world: &World,
    admit: impl AsyncFnOnce() -> Result<H>,
) -> Result<()> {
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

/// The present moment, in the boot that the service and `status` agree on.
#[must_use]
pub fn moment(world: &World) -> Moment {
    Moment::now(world, &step::boot_id(world))
}

#[cfg(test)]
mod tests;
