//! The recovery from an interrupted run, before a run does anything else.
//!
//! A change that the hub has confirmed is rolled forward from state.json. After an interrupted rotation
//! of the key, the hub has the old key pinned, the new key, or none. Recovery registers the new key
//! again: the operator has unpinned the old key, so the hub pins the new key or has pinned it already.
//! When the hub responds that another key is pinned, that is the old key, and the new key is removed.

use crate::exchange::exchange;
use crate::host_state::EnrolmentState;
use crate::monsys::{LOCK_WAIT, Monsys, locked};
use crate::plan::PlannedRequest;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::hub::retry::Limit;

/// The result of a recovery.
#[derive(Debug)]
pub(crate) enum Recovery {
    /// No run was interrupted.
    Nothing,
    /// The next key is the current key now.
    Completed,
    /// The hub has the old key pinned, so the next key was removed.
    Dropped(Error),
}

/// Recovers from an interrupted run, under the lock. Any result but [`Recovery::Nothing`] has changed the
/// host's files.
///
/// # Errors
/// Files that cannot be read or written, and the hub's rejection of an unconfirmed next key.
pub(crate) async fn recover(host: &Monsys<'_>, limit: Limit) -> Result<Recovery> {
    if roll_forward(host)? {
        return Ok(Recovery::Completed);
    }
    let enrolled = match host.enrolment_state()? {
        // Another hub must not see the credential: the next run at this hub completes the rotation.
        EnrolmentState::Enrolled(enrolled)
            if enrolled.is_next_key_unconfirmed && !enrolled.is_of_other_hub(&host.settings) =>
        {
            enrolled
        }
        _ => return Ok(Recovery::Nothing),
    };
    tracing::info!("a rotation of the key was interrupted: registering the new key again");
    let planned = PlannedRequest::new_key(enrolled, &host.settings);
    match exchange(host, planned, None, limit).await {
        Ok(_) => Ok(Recovery::Completed),
        Err(error) if error.id() == ErrorId::OtherKey => Ok(Recovery::Dropped(error)),
        Err(error) => Err(error),
    }
}

/// Completes a change that the hub has confirmed. Returns whether there was one.
pub(crate) fn roll_forward(host: &Monsys<'_>) -> Result<bool> {
    host.paths.sweep()?;
    host.credential_store()?.roll_forward(&host.settings)
}

/// Recovers as [`recover`] does, and returns the host as it is after that.
pub(crate) async fn recovered(host: Monsys<'_>, limit: Limit) -> Result<(Monsys<'_>, Recovery)> {
    let recovered = recover(&host, limit).await?;
    let host = match recovered {
        Recovery::Nothing => host,
        Recovery::Completed | Recovery::Dropped(_) => host.read_again()?,
    };
    Ok((host, recovered))
}

/// Recovers an enrolled host from an interrupted run, with one try: for the service.
///
/// # Errors
/// [`ErrorId::LockBusy`] while another run holds the lock, files that cannot be written, and the hub's
/// rejection of an unconfirmed next key.
pub(crate) async fn recover_now(flags: &Flags, environment: &Environment) -> Result<()> {
    let (host, lock) = locked(Monsys::read(flags, environment)?, Limit::of(LOCK_WAIT)).await?;
    let (host, _) = recovered(host, Limit::of(std::time::Duration::ZERO)).await?;
    if let EnrolmentState::Enrolled(enrolled) = host.enrolment_state()? {
        host.credential_store()?.repair(enrolled.agent_id)?;
    }
    drop(lock);
    Ok(())
}
