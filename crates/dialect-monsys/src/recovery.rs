//! Ending what an interrupted run left open, before anything else is done.
//!
//! What the hub has confirmed is only written on. But a rotation of the key that was interrupted
//! before its yes was written down leaves a doubt: the hub has the old key, the new one, or none
//! pinned. So it is asked, with the new one: the operator has unpinned the old one, so the new one
//! is pinned now or was before. When the hub says that it has another one, that is the old one,
//! and the new one goes.

use crate::exchange::Run;
use crate::host_state::EnrolmentState;
use crate::monsys::{MOMENT, Monsys, locked};
use crate::plan::Ask;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::hub::retry::Limit;

/// What had to be ended.
#[derive(Debug)]
pub(crate) enum Recovery {
    /// Nothing.
    Nothing,
    /// A new key is in its place.
    Ended,
    /// The hub has the old key: the new one is gone.
    Dropped(Error),
}

/// Ends what is open, under the lock. Anything but [`Recovery::Nothing`] has changed the host's files.
pub(crate) async fn recover(host: &Monsys<'_>, limit: Limit) -> Result<Recovery> {
    if end_confirmed(host)? {
        return Ok(Recovery::Ended);
    }
    let enrolled = match host.enrolment_state()? {
        EnrolmentState::Enrolled(enrolled) if enrolled.is_in_doubt => enrolled,
        _ => return Ok(Recovery::Nothing),
    };
    tracing::info!("a rotation of the key was interrupted: asking the hub which key it has");
    let ask = Ask::new_key(enrolled, &host.settings);
    match Run::new(host, limit)?.ask(ask, None).await {
        Ok(_) => Ok(Recovery::Ended),
        Err(error) if error.id() == ErrorId::OtherKey => Ok(Recovery::Dropped(error)),
        Err(error) => Err(error),
    }
}

/// Writes on what the hub has confirmed; tells whether there was something.
pub(crate) fn end_confirmed(host: &Monsys<'_>) -> Result<bool> {
    host.paths.sweep()?;
    host.keeper()?.roll_forward(&host.settings)
}

/// As [`recover`], and returns the host as it is then.
pub(crate) async fn recovered(host: Monsys<'_>, limit: Limit) -> Result<(Monsys<'_>, Recovery)> {
    let recovered = recover(&host, limit).await?;
    let host = match recovered {
        Recovery::Nothing => host,
        Recovery::Ended | Recovery::Dropped(_) => host.read_again()?,
    };
    Ok((host, recovered))
}

/// Ends what an interrupted run left open on an enrolled host, with one try: for the service.
///
/// # Errors
/// [`ErrorId::LockBusy`] when a run is at work right now, what cannot be written, and what the hub
/// says to a doubt.
pub(crate) async fn recover_now(flags: &Flags, environment: &Environment) -> Result<()> {
    let (host, lock) = locked(Monsys::read(flags, environment)?, Limit::of(MOMENT)).await?;
    let (host, _) = recovered(host, Limit::of(std::time::Duration::ZERO)).await?;
    if let EnrolmentState::Enrolled(enrolled) = host.enrolment_state()? {
        host.keeper()?.repair(enrolled.agent_id)?;
    }
    drop(lock);
    Ok(())
}
