//! `run`: the life after the enrolment. A signed heartbeat on the hub's interval, for ever.
//!
//! `rhythm` keeps the beat and `pace` chooses the pauses; `agent` is the host that it is kept
//! for; `notify` and `signals` are the service manager's side, `teller` the log, and
//! `health` what `status` reads.

mod agent;
mod alarm;
mod health;
mod hub_clock;
mod notify;
mod on_disk;
mod pace;
mod pulse;
mod rhythm;
mod signals;
mod teller;
mod vitals;
mod wire;

pub(crate) use health::Occasion;
pub use health::{FILE as HEALTH_FILE, Failure, Health, Journal};
pub(crate) use notify::Notify;
pub use pulse::{Pulse, Rate};
pub(crate) use rhythm::{Beat, Host, Miss};
pub(crate) use vitals::Meter;

use crate::dialect::monsys::{Paths, Standing, lost_key};
use crate::enrolment;
use crate::error::{Error, ErrorId, Result};
use crate::hub::client::Client;
use crate::settings::{Flags, Settings};
use crate::world::World;
use agent::Agent;
use alarm::Alarm;
use signals::Signals;

/// Sends heartbeats until SIGTERM or SIGINT. A host that is not enrolled yet, and is told where a
/// token is to be had, enrols first.
///
/// # Errors
/// What an enrolment ends with; [`ErrorId::NotEnrolled`] when there is no token either, or the
/// credential is taken away meanwhile. No heartbeat that fails is one.
pub async fn run(flags: &Flags, world: &World) -> Result<()> {
    keep(world, async |notify| {
        admit(flags, world, notify).await?;
        Agent::<Client>::load(flags, world)
    })
    .await
}

/// Keeps the rhythm of the host that `admit` gives, which may take as long as an enrolment does,
/// until SIGTERM or SIGINT.
///
/// # Errors
/// What `admit` ends with, and what ends the host's heartbeats for good.
pub(crate) async fn keep<H: Host>(
    world: &World,
    admit: impl AsyncFnOnce(&mut Notify) -> Result<H>,
) -> Result<()> {
    let mut signals = Signals::listen()?;
    let mut notify = Notify::of(world);
    let mut host = tokio::select! {
        biased;
        () = signals.stop() => return Ok(()),
        admitted = admit(&mut notify) => admitted?,
    };
    let who = host.describe();
    tracing::info!("{who}: a heartbeat every {} s", host.interval().as_secs());
    notify.ready(&who);
    let alarm = Alarm::new();
    let ended = rhythm::keep(&mut host, &mut signals, &mut notify, &alarm, world).await;
    notify.stopping();
    ended
}

/// Sees to it that this host is enrolled.
async fn admit(flags: &Flags, world: &World, notify: &mut Notify) -> Result<()> {
    let settings = Settings::resolve(flags, world)?;
    let paths = Paths::of(&settings, world);
    let has_token = settings.token.is_some();
    let why = match Standing::of(&settings, &paths, world)? {
        Standing::Enrolled(enrolled) if enrolled.key_is_lost => {
            return Err(lost_key());
        }
        Standing::Enrolled(enrolled) if enrolled.is_renewing() && has_token => {
            // The credential may be dead, or may not: then the heartbeats tell.
            if let Err(error) = enrolment::enrol(flags, false, world).await {
                tracing::warn!(
                    "ending the enrolment that was interrupted: {}: {}",
                    error.what(),
                    error.why()
                );
            }
            return Ok(());
        }
        Standing::Enrolled(_) => return Ok(()),
        Standing::New(_) if !has_token => {
            "agent.toml holds no credential, and nothing says where a token is to be had"
        }
        Standing::Clone(_) if !has_token => {
            "the identity on this disk belongs to another machine that this one was cloned from, and nothing says where a token is to be had"
        }
        _ => {
            tracing::info!("this host is not enrolled yet: enrolling it first");
            notify.status(&format!("enrolling at {}", settings.hub_url.value));
            enrolment::enrol(flags, false, world).await?;
            return Ok(());
        }
    };
    Err(Error::new(ErrorId::NotEnrolled, why).about(paths.config.display()))
}

#[cfg(test)]
mod tests;
