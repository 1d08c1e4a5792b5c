//! The privileged step before the service, for a monsys hub's agent.

use std::time::Duration;

use crate::credential_store::CredentialStore;
use crate::host_state::{Enrolled, EnrolmentState, Snapshot};
use crate::hub_clock::HubClock;
use crate::monsys::{LOCK_WAIT, Monsys, enrol, locked};
use crate::paths::Paths;
use crate::plan::lost_key;
use crate::receipt::Receipt;
use crate::recovery::recover_now;
use crate::state::State;
use crate::wire;
use agent_core::enrolment::step_record::StepRecord;
use agent_core::enrolment::{self, Dialect};
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::route::Target;
use agent_core::flags::Flags;
use agent_core::hub::client::Client;
use agent_core::hub::response::{self, Outcome};
use agent_core::hub::retry::Limit;
use agent_core::service::vitals::Meter;
use agent_core::settings::table;
use agent_core::store::atomic;

/// Enrols a host that is not enrolled yet, recovers from an interrupted run, and adds the facts of the
/// machine that only root can read.
///
/// Returns the error of a task that the next step repeats, and that does not stop the service.
///
/// # Errors
/// The reason why the service cannot run.
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
            let renews = enrolled.is_renewing() && has_token;
            if !renews {
                enrolled.refuse_other_hub(&host.settings)?;
            }
            share(paths, environment);
            let later = if renews {
                // The credential may still be valid: the heartbeats show that.
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
            } else if enrolled.is_complete(paths) {
                None
            } else {
                // Missing files and remains do not stop the service.
                recover_now(flags, environment).await.err()
            };
            // The service sends heartbeats also when the disk is full, or another run holds the lock.
            let later = later.or(update_fingerprint(flags, environment).await.err());
            if later.is_some() || !asks_hub(&host, enrolled) {
                return Ok(later);
            }
            return Ok(ask_hub(flags, environment).await.err());
        }
        EnrolmentState::New(_) if !has_token => {
            "agent.toml holds no credential, and no token source is set"
        }
        EnrolmentState::Clone(_) if !has_token => {
            "the identity on this disk belongs to another machine that this one was cloned from, and no token source is set"
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

/// Returns whether this step asks the hub whether it still knows the host. At a boot, no step asks: only a step
/// that is repeated in the same boot, which the service requests when the hub answers 401, or when the receipt is
/// old. The time of the last question is in root's own state, since the step obeys nothing that the service has written.
fn asks_hub(host: &Monsys<'_>, enrolled: &Enrolled) -> bool {
    let state = enrolled.state.as_ref();
    let is_repeated = state
        .and_then(|state| state.step.as_ref())
        .is_some_and(|step| step.boot_id == host.environment.boot_id());
    let interval = host.settings.readmission_interval;
    let is_due = state
        .and_then(|state| state.hub_check.as_ref())
        .is_none_or(|last| {
            let left = last.pause_left(interval, host.environment.now());
            left.is_zero()
        });
    is_repeated && is_due
}

/// Asks the hub, with one try, whether it still knows this host, and takes the host back if it does not. Also
/// fetches a new receipt when the present one is old.
///
/// The question is a heartbeat, and not a registration: that would pin the current key, which an operator may have
/// unpinned for a new one.
///
/// # Errors
/// A hub that does not answer, its rejection, and files that cannot be written.
pub(crate) async fn ask_hub(flags: &Flags, environment: &Environment) -> Result<()> {
    let (host, lock) = locked(Monsys::read(flags, environment)?, Limit::of(LOCK_WAIT)).await?;
    let interval = host.settings.readmission_interval;
    host.credential_store()?.record_hub_check(interval)?;
    let receipt = Receipt::load(&host.paths.state_dir);
    let is_old = receipt.is_some_and(|receipt| receipt.is_old(environment.now()));
    let is_known = match heartbeat(&host).await? {
        Outcome::Done(()) => true,
        Outcome::Stop(error) if error.id() == ErrorId::Forgotten => false,
        Outcome::Stop(error) | Outcome::Wait { error, .. } => return Err(error),
    };
    drop(lock);
    if is_known && !is_old {
        return Ok(());
    }
    let open = || -> Result<Box<dyn Dialect + '_>> {
        enrolment::checked(Box::new(Monsys::read(flags, environment)?), environment)
    };
    let once = Limit::of(Duration::ZERO);
    let enrolment = enrolment::confirm_by(&open, once, environment).await?;
    tracing::info!("the hub has confirmed this host: {}", enrolment.done.word());
    Ok(())
}

/// Asks the hub by one heartbeat whether it accepts this host's own credential.
///
/// # Errors
/// The hub's rejection, and a hub that does not answer.
pub(crate) async fn accepts_credential(host: &Monsys<'_>) -> Result<bool> {
    match host.enrolment_state()? {
        EnrolmentState::Enrolled(enrolled) if !enrolled.key_is_lost => {
            enrolled.refuse_other_hub(&host.settings)?;
        }
        _ => return Ok(false),
    }
    match heartbeat(host).await? {
        Outcome::Done(()) => Ok(true),
        Outcome::Stop(error) | Outcome::Wait { error, .. } => Err(error),
    }
}

/// Sends one heartbeat, and a second one by the hub's clock if the hub refuses the first one for its time.
async fn heartbeat(host: &Monsys<'_>) -> Result<Outcome<()>> {
    let EnrolmentState::Enrolled(enrolled) = host.enrolment_state()? else {
        return Err(Error::new(
            ErrorId::NotEnrolled,
            "the credential in agent.toml was removed during this run",
        ));
    };
    let (settings, environment) = (&host.settings, host.environment);
    let identity = host.state()?.snapshot.key.clone().ok_or_else(lost_key)?;
    let target = Target::resolve(settings).await;
    let client = Client::new(settings)?;
    let deadline = Limit::of(Duration::ZERO).deadline;
    let mut clock = HubClock::default();
    let attempt = async |captured_at| {
        let vitals = Meter::default().measure(captured_at, environment, &target);
        let request = wire::heartbeat(
            &settings.hub_url.value,
            enrolled.agent_id,
            &enrolled.agent_token,
            &vitals,
            &identity,
        );
        let url = request.url.to_string();
        (url, client.send(request, environment, deadline).await)
    };
    let (url, mut sent) = attempt(environment.now()).await;
    if let Ok(reply) = &sent
        && clock.learn(reply, environment.now())
    {
        (_, sent) = attempt(clock.at(environment.now())).await;
    }
    Ok(response::classify_own_empty(&url, sent))
}

/// Lets the service's group read files that were written before the host had that group.
fn share(paths: &Paths, environment: &Environment) {
    let access = environment.access();
    if !access.has_service_user() {
        return;
    }
    let files = paths.service_files().into_iter();
    let grants = files.map(|path| (path, access.shared()));
    // A state directory with another path belongs to the operator.
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

/// Adds to the fingerprint what was not known of this machine when it was written, and what has changed since
/// without making it another machine.
async fn update_fingerprint(flags: &Flags, environment: &Environment) -> Result<()> {
    let before = Monsys::read(flags, environment)?;
    if before.credential_store()?.with_machine_of_now().is_none() {
        return Ok(());
    }
    let (host, lock) = locked(before, Limit::of(LOCK_WAIT)).await?;
    let store = host.credential_store()?;
    if let Some(state) = store.with_machine_of_now() {
        store.save_state(&state)?;
    }
    drop(lock);
    Ok(())
}

/// Returns the result of the last step, from state.json.
pub(crate) fn last_record(paths: &Paths) -> Option<StepRecord> {
    let state = State::load(&paths.state_dir).ok().flatten()?;
    state.step.map(|record| *record)
}

/// Writes the result of a step into state.json. Returns `false` when the host has no state.json, which is
/// so before it is enrolled.
///
/// # Errors
/// Files that cannot be written.
pub(crate) async fn save_record(
    flags: &Flags,
    environment: &Environment,
    record: &StepRecord,
) -> Result<bool> {
    let before = Monsys::read(flags, environment)?;
    if State::load(&before.paths.state_dir)?.is_none() {
        return Ok(false);
    }
    let (host, lock) = locked(before, Limit::of(LOCK_WAIT)).await?;
    let snapshot = Snapshot::read(&host.paths, environment)?;
    let Some(state) = snapshot.state.clone() else {
        return Ok(false);
    };
    let step = Some(Box::new(record.clone()));
    CredentialStore::new(&host.paths, environment, &snapshot)
        .save_state(&State { step, ..state })?;
    drop(lock);
    Ok(true)
}
