//! Ending what an interrupted run left open, before anything else is done.
//!
//! What the hub has confirmed is only written on. But a rotation of the key that was interrupted
//! before its yes was written down leaves a doubt: the hub has the old key, the new one, or none
//! pinned. So it is asked, with the new one: the operator has unpinned the old one, so the new one
//! is pinned now or was before. When the hub says that it has another one, that is the old one,
//! and the new one goes.

use crate::monsys::{MOMENT, locked};
use crate::paths::Paths;
use crate::persist::Keeper;
use crate::plan::Ask;
use crate::run::Run;
use crate::standing::{Enrolled, Standing};
use agent_core::environment::World;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::hub::retry::Limit;
use agent_core::settings::Settings;

/// What had to be ended.
#[derive(Debug)]
pub(crate) enum Settled {
    /// Nothing.
    Nothing,
    /// A new key is in its place.
    Ended,
    /// The hub has the old key: the new one is gone.
    Dropped(Error),
}

impl Settled {
    /// The settings as they are then.
    pub(crate) fn read_again(
        &self,
        settings: Settings,
        flags: &Flags,
        world: &World,
    ) -> Result<Settings> {
        match self {
            Self::Nothing => Ok(settings),
            Self::Ended | Self::Dropped(_) => Settings::resolve(flags, world),
        }
    }
}

/// Ends what is open, under the lock.
pub(crate) async fn settle(
    settings: &Settings,
    paths: &Paths,
    world: &World,
    limit: Limit,
) -> Result<Settled> {
    if end_confirmed(settings, paths, world)? {
        return Ok(Settled::Ended);
    }
    let Some(enrolled) = in_doubt(settings, paths, world)? else {
        return Ok(Settled::Nothing);
    };
    tracing::info!("a rotation of the key was interrupted: asking the hub which key it has");
    let ask = Ask::new_key(enrolled, settings);
    let run = Run::new(settings, paths, world, limit)?;
    match run.ask(ask, None).await {
        Ok(_) => Ok(Settled::Ended),
        Err(error) if error.id() == ErrorId::OtherKey => Ok(Settled::Dropped(error)),
        Err(error) => Err(error),
    }
}

/// Writes on what the hub has confirmed; tells whether there was something.
pub(crate) fn end_confirmed(settings: &Settings, paths: &Paths, world: &World) -> Result<bool> {
    paths.sweep()?;
    Keeper::new(paths, world)?.roll_forward(settings)
}

fn in_doubt(settings: &Settings, paths: &Paths, world: &World) -> Result<Option<Enrolled>> {
    Ok(match Standing::of(settings, paths, world)? {
        Standing::Enrolled(enrolled) if enrolled.is_in_doubt => Some(*enrolled),
        _ => None,
    })
}

/// Ends what an interrupted run left open on an enrolled host, with one try: for the service.
///
/// # Errors
/// [`ErrorId::LockBusy`] when a run is at work right now, what cannot be written, and what the hub
/// says to a doubt.
pub(crate) async fn settle_now(flags: &Flags, world: &World) -> Result<()> {
    let (settings, paths, lock) = locked(flags, world, Limit::of(MOMENT)).await?;
    let limit = Limit::of(std::time::Duration::ZERO);
    let settled = settle(&settings, &paths, world, limit).await?;
    let settings = settled.read_again(settings, flags, world)?;
    if let Standing::Enrolled(enrolled) = Standing::of(&settings, &paths, world)? {
        Keeper::new(&paths, world)?.repair(enrolled.agent_id)?;
    }
    drop(lock);
    Ok(())
}
