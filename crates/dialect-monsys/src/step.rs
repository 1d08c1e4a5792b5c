//! The privileged step before the service, for a monsys hub's agent.

use crate::credential_store::CredentialStore;
use crate::host_state::{EnrolmentState, Snapshot};
use crate::monsys::{MOMENT, Monsys, enrol, locked};
use crate::paths::Paths;
use crate::plan::lost_key;
use crate::recovery::recover_now;
use crate::state::State;
use agent_core::enrolment::step_record::StepRecord;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::hub::retry::Limit;
use agent_core::settings::table;
use agent_core::store::atomic;

/// Enrols a host that is not enrolled yet, ends what was interrupted, and fills in what root can tell
/// of the machine and the enrolment could not.
///
/// # Errors
/// Why the service cannot run.
pub(crate) async fn step(
    flags: &Flags,
    environment: &Environment,
    is_service: bool,
) -> Result<Option<Error>> {
    let host = Monsys::read(flags, environment)?;
    let paths = &host.paths;
    let has_token = host.settings.token.is_some();
    let cause = match host.enrolment_state()? {
        EnrolmentState::Enrolled(enrolled) if enrolled.key_is_lost => return Err(lost_key()),
        EnrolmentState::Enrolled(enrolled) => {
            share(paths, environment);
            let later = if enrolled.is_renewing() && has_token {
                // The credential may be dead, or may not: then the heartbeats show it.
                enrol(flags, environment).await.err()
            } else if enrolled
                .state
                .as_ref()
                .is_some_and(|state| state.next.is_some())
            {
                match recover_now(flags, environment).await {
                    Err(error) if !is_service => return Err(error),
                    recovered => recovered.err(),
                }
            } else if paths.are_complete(enrolled) {
                None
            } else {
                // Incomplete cleanup stops nothing.
                recover_now(flags, environment).await.err()
            };
            // A disk that takes nothing, or a run that has the lock, is no reason to be silent.
            return Ok(later.or(fill_in(flags, environment).await.err()));
        }
        EnrolmentState::New(_) if !has_token => {
            "agent.toml holds no credential, and nothing says where a token is to be had"
        }
        EnrolmentState::Clone(_) if !has_token => {
            "the identity on this disk belongs to another machine that this one was cloned from, and nothing says where a token is to be had"
        }
        _ => {
            tracing::info!("this host is not enrolled yet: enrolling it first");
            share(paths, environment);
            enrol(flags, environment).await?;
            return Ok(None);
        }
    };
    Err(Error::new(ErrorId::NotEnrolled, cause).about(paths.config.display()))
}

/// Lets the service's group read what an enrolment wrote before the host had that group.
fn share(paths: &Paths, environment: &Environment) {
    let access = environment.access();
    if !access.has_service_user() {
        return;
    }
    let files = paths.service_files().into_iter();
    let grants = files.map(|path| (path, access.shared()));
    // Another folder than the agent's own is the operator's.
    let own = environment.resolved_path(table::STATE_DIR.default.unwrap_or_default());
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
async fn fill_in(flags: &Flags, environment: &Environment) -> Result<()> {
    let before = Monsys::read(flags, environment)?;
    if before.keeper()?.filled_in().is_none() {
        return Ok(());
    }
    let (host, lock) = locked(before, Limit::of(MOMENT)).await?;
    let keeper = host.keeper()?;
    if let Some(state) = keeper.filled_in() {
        keeper.save_state(&state)?;
    }
    drop(lock);
    Ok(())
}

/// The verdict in state.json.
pub(crate) fn verdict(paths: &Paths) -> Option<StepRecord> {
    let state = State::load(&paths.state_dir).ok().flatten()?;
    state.step.map(|verdict| *verdict)
}

/// Puts the verdict into state.json, if the host has one: a host that is not enrolled has no state.
pub(crate) async fn save_verdict(
    flags: &Flags,
    environment: &Environment,
    verdict: &StepRecord,
) -> Result<bool> {
    let before = Monsys::read(flags, environment)?;
    if State::load(&before.paths.state_dir)?.is_none() {
        return Ok(false);
    }
    let (host, lock) = locked(before, Limit::of(MOMENT)).await?;
    let snapshot = Snapshot::read(&host.paths, environment)?;
    let Some(state) = snapshot.state.clone() else {
        return Ok(false);
    };
    let step = Some(Box::new(verdict.clone()));
    CredentialStore::new(&host.paths, environment, &snapshot)
        .save_state(&State { step, ..state })?;
    drop(lock);
    Ok(true)
}
