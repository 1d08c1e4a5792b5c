//! The privileged step before the service, for a monsys hub's agent.

use crate::monsys::{MOMENT, enrol, locked};
use crate::paths::Paths;
use crate::persist::Keeper;
use crate::plan::lost_key;
use crate::settling::settle_now;
use crate::standing::Standing;
use crate::state::State;
use agent_core::enrolment::step_record::Verdict;
use agent_core::environment::World;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::hub::retry::Limit;
use agent_core::settings::{Settings, table};
use agent_core::store::atomic;

/// Enrols a host that is not enrolled yet, ends what was interrupted, and fills in what root can tell
/// of the machine and the enrolment could not.
///
/// # Errors
/// Why the service cannot run.
pub(crate) async fn step(flags: &Flags, world: &World, is_service: bool) -> Result<Option<Error>> {
    let settings = Settings::resolve(flags, world)?;
    let paths = Paths::of(&settings, world);
    let has_token = settings.token.is_some();
    let cause = match Standing::of(&settings, &paths, world)? {
        Standing::Enrolled(enrolled) if enrolled.key_is_lost => return Err(lost_key()),
        Standing::Enrolled(enrolled) => {
            share(&paths, world);
            let later = if enrolled.is_renewing() && has_token {
                // The credential may be dead, or may not: then the heartbeats show it.
                enrol(flags, world).await.err()
            } else if enrolled
                .state
                .as_ref()
                .is_some_and(|state| state.next.is_some())
            {
                match settle_now(flags, world).await {
                    Err(error) if !is_service => return Err(error),
                    settled => settled.err(),
                }
            } else if paths.are_complete(&enrolled) {
                None
            } else {
                // Incomplete cleanup stops nothing.
                settle_now(flags, world).await.err()
            };
            // A disk that takes nothing, or a run that has the lock, is no reason to be silent.
            return Ok(later.or(fill_in(flags, world).await.err()));
        }
        Standing::New(_) if !has_token => {
            "agent.toml holds no credential, and nothing says where a token is to be had"
        }
        Standing::Clone(_) if !has_token => {
            "the identity on this disk belongs to another machine that this one was cloned from, and nothing says where a token is to be had"
        }
        _ => {
            tracing::info!("this host is not enrolled yet: enrolling it first");
            share(&paths, world);
            enrol(flags, world).await?;
            return Ok(None);
        }
    };
    Err(Error::new(ErrorId::NotEnrolled, cause).about(paths.config.display()))
}

/// Lets the service's group read what an enrolment wrote before the host had that group.
fn share(paths: &Paths, world: &World) {
    let access = world.access();
    if !access.has_service_user() {
        return;
    }
    let files = paths.service_files().into_iter();
    let grants = files.map(|path| (path, access.shared()));
    // Another folder than the agent's own is the operator's.
    let own = world.resolved_path(table::STATE_DIR.default.unwrap_or_default());
    let folder = (paths.state_dir == own).then_some((own, access.shared_folder()));
    for (path, grant) in grants.chain(folder) {
        match atomic::share(&path, grant) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!("{}: {error}", path.display());
            }
            _ => {}
        }
    }
}

/// Adds to the fingerprint what is known of this machine now and was not when it was written down.
async fn fill_in(flags: &Flags, world: &World) -> Result<()> {
    let settings = Settings::resolve(flags, world)?;
    let paths = Paths::of(&settings, world);
    if Keeper::new(&paths, world)?.filled_in()?.is_none() {
        return Ok(());
    }
    let (_, paths, lock) = locked(flags, world, Limit::of(MOMENT)).await?;
    let keeper = Keeper::new(&paths, world)?;
    if let Some(state) = keeper.filled_in()? {
        keeper.save_state(&state)?;
    }
    drop(lock);
    Ok(())
}

/// The verdict in state.json.
pub(crate) fn verdict(paths: &Paths) -> Option<Verdict> {
    let state = State::load(&paths.state_dir).ok().flatten()?;
    state.step.map(|verdict| *verdict)
}

/// Puts the verdict into state.json, if the host has one: a host that is not enrolled has no state.
pub(crate) async fn save_verdict(flags: &Flags, world: &World, verdict: &Verdict) -> Result<bool> {
    let settings = Settings::resolve(flags, world)?;
    let paths = Paths::of(&settings, world);
    if State::load(&paths.state_dir)?.is_none() {
        return Ok(false);
    }
    let (_, paths, lock) = locked(flags, world, Limit::of(MOMENT)).await?;
    let Some(state) = State::load(&paths.state_dir)? else {
        return Ok(false);
    };
    let step = Some(Box::new(verdict.clone()));
    Keeper::new(&paths, world)?.save_state(&State { step, ..state })?;
    drop(lock);
    Ok(true)
}
