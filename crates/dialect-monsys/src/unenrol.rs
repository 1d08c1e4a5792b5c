//! The unenrolment of a host: the hub removes the agent, then the host removes its credential.
//!
//! The order of writes: state (unenrolment begun), *request to the hub*, agent.toml without the credential,
//! agent-id, keys, health file and cleanup record, and the state last. So a crash leaves either an
//! enrolled host whose state shows the interrupted unenrolment, or a host without a credential whose
//! remaining files the next run removes.

use std::path::PathBuf;

use tokio::time::Instant;
use uuid::Uuid;

use crate::credential_store::CredentialStore;
use crate::heartbeat_lock::HeartbeatLock;
use crate::host_state::{Enrolled, EnrolmentState, Snapshot};
use crate::monsys::{LOCK_WAIT, Monsys, locked};
use crate::paths::{HostFiles, KeyWrite, is_ours};
use crate::plan::lost_key;
use crate::recovery::{Recovery, recover};
use crate::state::State;
use crate::wire;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::hub::client::Client;
use agent_core::hub::response::{self, Outcome};
use agent_core::hub::retry::{self, Limit};
use agent_core::scrub::record;
use agent_core::service::HealthFile;
use agent_core::store::agent_toml::Entry;
use agent_core::store::atomic;

/// The result of an unenrolment.
#[derive(Debug)]
pub struct Unenrolment {
    /// The outcome.
    pub outcome: UnenrolOutcome,
    /// The id of the agent that this host was, if agent.toml named one.
    pub agent_id: Option<Uuid>,
    /// The URL of the hub.
    pub hub_url: String,
    /// Files or settings on the host were removed.
    pub changed: bool,
    /// A token source is still set in agent.toml, in the environment or as a systemd credential.
    pub would_enrol_again: bool,
    /// Path of agent.toml.
    pub config: PathBuf,
}

/// The outcome of an unenrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnenrolOutcome {
    /// The hub has removed the agent.
    Unenrolled,
    /// The hub had removed the agent on the request of an earlier run, which this run has completed.
    Completed,
    /// Only the credential on this host was removed: the hub got no request, or rejected it.
    LocalOnly,
    /// There was no credential.
    NotEnrolled,
}

/// Has the hub remove this host's agent, and then removes the credential. With `force`, removes the
/// credential whatever the hub responds.
///
/// # Errors
/// The hub's rejection, and a hub that cannot be reached: the host then stays enrolled.
pub async fn unenrol(flags: &Flags, force: bool, environment: &Environment) -> Result<Unenrolment> {
    let before = Monsys::read(flags, environment)?;
    if matches!(
        enrolment_state(&before, force)?,
        Some(EnrolmentState::New(_))
    ) && HostFiles::of(before.paths.identity_files()?)?
        .ours
        .is_empty()
    {
        return Ok(done(UnenrolOutcome::NotEnrolled, None, false, &before));
    }
    // With `force`, the hub gets one request, without a retry.
    let limit = Limit::of(if force {
        std::time::Duration::ZERO
    } else {
        before.settings.wait.value
    });
    let (host, lock) = locked(before, limit).await?;
    let host = match recover(&host, limit).await {
        Ok(Recovery::Nothing) => host,
        Ok(Recovery::Completed | Recovery::Dropped(_)) => host.read_again()?,
        Err(error) if force => {
            tracing::warn!("{}: {}", error.what(), error.cause());
            host.read_again()?
        }
        Err(error) => return Err(error),
    };
    let paths = &host.paths;
    // With `force`, most of the time is for the request to the hub.
    let lock_deadline = if force {
        Instant::now() + LOCK_WAIT
    } else {
        limit.deadline
    };
    let heartbeat_lock = match HeartbeatLock::exclusive(&paths.state_dir, lock_deadline).await {
        // Each user who can read the folder can hold that lock, and must not stop root's unenrolment.
        Err(error) if force && error.id() == ErrorId::LockBusy => {
            tracing::debug!("{}: {}", error.what(), error.cause());
            None
        }
        heartbeat_lock => Some(heartbeat_lock?),
    };
    // The snapshot is read also where agent.toml is broken.
    let snapshot = Snapshot::read(paths, environment)?;
    let store = CredentialStore::new(paths, environment, &snapshot);
    let state = snapshot.state;
    let has_begun = state.as_ref().is_some_and(|state| state.unenrolling);
    let id = host.settings.file.agent_id()?;
    let outcome = match enrolment_state(&host, force)? {
        Some(EnrolmentState::New(_)) if has_begun => UnenrolOutcome::Completed,
        Some(EnrolmentState::New(_)) if force => UnenrolOutcome::LocalOnly,
        // The key of an interrupted enrolment stays: the hub may know it, and the next run completes it.
        Some(EnrolmentState::New(_)) => {
            return Ok(done(UnenrolOutcome::NotEnrolled, None, false, &host));
        }
        None => UnenrolOutcome::LocalOnly,
        _ if force && id.is_none() => UnenrolOutcome::LocalOnly,
        Some(EnrolmentState::Clone(_)) if force => UnenrolOutcome::LocalOnly,
        Some(EnrolmentState::Clone(_)) => return Err(clone()),
        Some(EnrolmentState::Unconfirmed(..)) => return Err(unconfirmed()),
        Some(EnrolmentState::Enrolled(enrolled)) if enrolled.key_is_lost && force => {
            UnenrolOutcome::LocalOnly
        }
        Some(EnrolmentState::Enrolled(enrolled)) if enrolled.key_is_lost => return Err(keyless()),
        Some(EnrolmentState::Enrolled(enrolled)) => {
            enrolled.refuse_other_hub(&host.settings)?;
            paths.prove_writable(&host.settings, environment, KeyWrite::Never)?;
            match request_removal(&host, &store, enrolled, limit).await {
                Ok(outcome) => outcome,
                Err(error) if force => {
                    tracing::warn!(
                        "{}: {}; the hub may still list this host",
                        error.what(),
                        error.cause()
                    );
                    UnenrolOutcome::LocalOnly
                }
                Err(error) => return Err(error),
            }
        }
    };
    store.set_unenrolling(true)?;
    remove_credential(&host, state.as_ref())?;
    // A later run finds no enrolment, and does not look for the temporary files of this one.
    if let Err(error) = paths.sweep() {
        tracing::warn!("{}: {}", error.what(), error.cause());
    }
    drop((heartbeat_lock, lock));
    Ok(done(outcome, id, true, &host))
}

/// Returns the state of this host. `None` with `force` when agent.toml is broken, or does not name the hub.
fn enrolment_state<'h>(host: &'h Monsys<'_>, force: bool) -> Result<Option<&'h EnrolmentState>> {
    match host.enrolment_state() {
        Err(error) if force && error.id() == ErrorId::ConfigBroken => {
            tracing::warn!(
                "{}: {}; the hub may still list this host",
                error.what(),
                error.cause()
            );
            Ok(None)
        }
        enrolment_state => enrolment_state.map(Some),
    }
}

/// Requests the removal of the agent until the hub accepts or rejects it.
async fn request_removal(
    host: &Monsys<'_>,
    store: &CredentialStore<'_>,
    enrolled: &Enrolled,
    limit: Limit,
) -> Result<UnenrolOutcome> {
    let (settings, environment) = (&host.settings, host.environment);
    let client = Client::new(settings)?;
    let identity = host.state()?.snapshot.key.clone().ok_or_else(lost_key)?;
    let has_set_unenrolling = store.set_unenrolling(true)?;
    let hub = &settings.hub_url.value;
    let request = || wire::unenrol(hub, enrolled.agent_id, &enrolled.agent_token, &identity);
    let url = request().url.to_string();
    let mut response_was_lost = false;
    tracing::info!("requesting at {url} that the hub removes this host");
    let removed = retry::until(&url, limit, environment, async || {
        let sent = client.send(request(), environment, limit.deadline).await;
        let outcome = response::classify_own_empty(&url, sent);
        response_was_lost |= matches!(outcome, Outcome::Wait { .. });
        Ok(outcome)
    })
    .await;
    let error = match removed {
        Ok(()) => return Ok(UnenrolOutcome::Unenrolled),
        Err(error) => error,
    };
    let is_gone = error.id() == ErrorId::Forgotten;
    if is_gone && (response_was_lost || !has_set_unenrolling) {
        // An earlier request was accepted, and its response was lost.
        tracing::info!("the hub has removed this host already, on an earlier request");
        return Ok(UnenrolOutcome::Completed);
    }
    if has_set_unenrolling && !response_was_lost && error.id() != ErrorId::Unreachable {
        store.set_unenrolling(false)?;
    }
    Err(if is_gone {
        forgotten(&error, &url)
    } else {
        error
    })
}

/// Removes the credential, and then the files that belong to it.
fn remove_credential(host: &Monsys<'_>, state: Option<&State>) -> Result<()> {
    let Monsys {
        settings,
        paths,
        environment,
        ..
    } = host;
    let state_error = |error: &std::io::Error| paths.state_error(error);
    // An operator may have edited the file during the request.
    let file = settings.file.current()?;
    let mut entries = vec![("agent_id", Entry::Gone), ("agent_token", Entry::Gone)];
    if let Some(state) = state.filter(|state| state.enrolled_at.is_some()) {
        // Tags and role of the token's defaults are removed, and the host's own stay.
        let requested = &state.requested;
        let role = requested.role.clone();
        entries.push(("role", role.map_or(Entry::Gone, Entry::Text)));
        entries.push((
            "tags",
            if requested.tags.is_empty() {
                Entry::Gone
            } else {
                Entry::List(&requested.tags)
            },
        ));
    }
    let text = file.with(&entries)?;
    if !file.is(&text) {
        file.replace(&text, environment.access())
            .map_err(|error| paths.config_error(&error))?;
    }
    let files = HostFiles::of(paths.identity_files()?)?;
    for path in &files.others {
        tracing::warn!(
            "{} does not hold what the agent writes there, and stays",
            path.display()
        );
    }
    let is_state = |path: &PathBuf| path.ends_with(crate::state::FILE);
    let (states, others): (Vec<_>, Vec<_>) = files.ours.into_iter().partition(is_state);
    for path in &others {
        atomic::remove(path).map_err(|error| state_error(&error))?;
    }
    for path in HealthFile::of(&paths.state_dir, environment).paths() {
        // In /run/monsys, each such file is the service's. A health file that stays does no harm.
        let is_others = path.starts_with(&paths.state_dir) && !is_ours(path).unwrap_or(false);
        if is_others {
            continue;
        }
        if let Err(error) = atomic::remove(path) {
            tracing::debug!("{}: {error}", path.display());
        }
    }
    let scrubbed = paths.state_dir.join(record::FILE);
    if is_ours(&scrubbed)? {
        atomic::remove(&scrubbed).map_err(|error| state_error(&error))?;
    }
    for path in &states {
        atomic::remove(path).map_err(|error| state_error(&error))?;
    }
    tracing::debug!(
        "removed the credential from {}",
        settings.config_path.display()
    );
    Ok(())
}

/// Returns the report of the run.
fn done(
    outcome: UnenrolOutcome,
    agent_id: Option<Uuid>,
    changed: bool,
    host: &Monsys<'_>,
) -> Unenrolment {
    let Monsys {
        settings, paths, ..
    } = host;
    Unenrolment {
        outcome,
        agent_id,
        hub_url: settings.hub_url.value.to_string(),
        changed,
        would_enrol_again: settings.token.is_some(),
        config: paths.config.clone(),
    }
}

const FORCE: &str = "to remove the credential from this host only: monsys-agent unenrol --force";

/// Returns the error of a clone.
fn clone() -> Error {
    Error::new(
        ErrorId::NotEnrolled,
        "the identity on this disk belongs to another machine that this one was cloned from, and that machine is still enrolled",
    )
    .hint(FORCE)
}

/// Returns the error of a host whose token no hub has confirmed.
fn unconfirmed() -> Error {
    Error::new(
        ErrorId::NotEnrolled,
        "agent.toml holds a per-agent token that no hub has confirmed, so there is no agent to unenrol",
    )
    .hint(FORCE)
}

/// Returns the error of a host whose key is lost.
fn keyless() -> Error {
    Error::new(
        ErrorId::IdentityLost,
        "the hub removes an agent only on a signed request, and the signing key of this host is missing",
    )
    .hint(format!("an operator deletes the agent at the hub; {FORCE}"))
}

/// Rewords a rejection of an agent that the hub may have removed already.
fn forgotten(error: &Error, url: &str) -> Error {
    Error::new(
        error.id(),
        format!(
            "{}; the hub may have removed this host already, or the token was rotated",
            error.cause()
        ),
    )
    .about(url)
    .hint(format!(
        "an operator looks up the agent at the hub; {FORCE}"
    ))
}
