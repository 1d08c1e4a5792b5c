//! A host that leaves: the hub is told, then the credential is removed.
//!
//! The order: state (leaving), *the hub is told*, agent.toml without the credential, agent-id, keys,
//! the service's notes, and the state last. So a crash leaves either an enrolled host that knows
//! that it has begun to leave, or one without a credential that the next run cleans up after.

use std::path::PathBuf;

use tokio::time::Instant;
use uuid::Uuid;

use crate::credential_store::CredentialStore;
use crate::heartbeat_lock::HeartbeatLock;
use crate::host_state::{Enrolled, EnrolmentState, Snapshot};
use crate::monsys::{MOMENT, Monsys, locked};
use crate::paths::{HostFiles, is_ours};
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

/// What leaving came to.
#[derive(Debug)]
pub struct Unenrolment {
    /// What was done.
    pub parting: UnenrolOutcome,
    /// The agent that this host was, if it was one.
    pub agent_id: Option<Uuid>,
    /// Its hub.
    pub hub_url: String,
    /// Whether anything on the host was removed.
    pub changed: bool,
    /// agent.toml, the environment or a credential still says where a token is to be had.
    pub would_enrol_again: bool,
    /// Where agent.toml is.
    pub config: PathBuf,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnenrolOutcome {
    /// The hub let this host go.
    Left,
    /// An earlier run had told the hub.
    Ended,
    /// The hub was not told, or did not agree: only this host was cleaned up.
    OnlyHere,
    /// There was no credential.
    NotEnrolled,
}

/// Tells the hub that this host leaves, and removes its credential. With `force`, it is removed
/// whatever the hub says.
///
/// # Errors
/// What the hub says, or that it cannot be reached; the host then stays as it is.
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
    // By force, the hub is told once, and not waited for.
    let limit = Limit::of(if force {
        std::time::Duration::ZERO
    } else {
        before.settings.wait
    });
    let (host, lock) = locked(before, limit).await?;
    let host = match recover(&host, limit).await {
        Ok(Recovery::Nothing) => host,
        Ok(Recovery::Ended | Recovery::Dropped(_)) => host.read_again()?,
        Err(error) if force => {
            tracing::warn!("{}: {}", error.what(), error.cause());
            host.read_again()?
        }
        Err(error) => return Err(error),
    };
    let paths = &host.paths;
    // By force, most of the time is for telling the hub.
    let patience = if force {
        Instant::now() + MOMENT
    } else {
        limit.deadline
    };
    let quiet = match HeartbeatLock::alone(&paths.state_dir, patience).await {
        // Whoever reads the folder can hold that lock, and does not keep root from leaving.
        Err(error) if force && error.id() == ErrorId::LockBusy => {
            tracing::debug!("{}: {}", error.what(), error.cause());
            None
        }
        quiet => Some(quiet?),
    };
    // Also where agent.toml is broken.
    let snapshot = Snapshot::read(paths, environment)?;
    let keeper = CredentialStore::new(paths, environment, &snapshot);
    let state = snapshot.state;
    let has_begun = state.as_ref().is_some_and(|state| state.leaving);
    let id = host.settings.file.agent_id()?;
    let parting = match enrolment_state(&host, force)? {
        Some(EnrolmentState::New(_)) if has_begun => UnenrolOutcome::Ended,
        Some(EnrolmentState::New(_)) if force => UnenrolOutcome::OnlyHere,
        // The key of an enrolment that was interrupted: the hub may know it, and the next run ends it.
        Some(EnrolmentState::New(_)) => {
            return Ok(done(UnenrolOutcome::NotEnrolled, None, false, &host));
        }
        None => UnenrolOutcome::OnlyHere,
        _ if force && id.is_none() => UnenrolOutcome::OnlyHere,
        Some(EnrolmentState::Clone(_)) if force => UnenrolOutcome::OnlyHere,
        Some(EnrolmentState::Clone(_)) => return Err(clone()),
        Some(EnrolmentState::Unconfirmed(..)) => return Err(unconfirmed()),
        Some(EnrolmentState::Enrolled(enrolled)) if enrolled.key_is_lost && force => {
            UnenrolOutcome::OnlyHere
        }
        Some(EnrolmentState::Enrolled(enrolled)) if enrolled.key_is_lost => return Err(keyless()),
        Some(EnrolmentState::Enrolled(enrolled)) => {
            paths.prove_writable(&host.settings, environment.access())?;
            let told = part(&host, &keeper, enrolled, limit).await;
            match told {
                Ok(parting) => parting,
                Err(error) if force => {
                    tracing::warn!(
                        "{}: {}; the hub may still list this host",
                        error.what(),
                        error.cause()
                    );
                    UnenrolOutcome::OnlyHere
                }
                Err(error) => return Err(error),
            }
        }
    };
    keeper.mark_leaving(true)?;
    clear(&host, state.as_ref())?;
    drop((quiet, lock));
    Ok(done(parting, id, true, &host))
}

/// Where this host stands; none when agent.toml is broken, or does not say whom to tell, and it leaves
/// by force.
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

/// Tells the hub, until it says yes or no.
async fn part(
    host: &Monsys<'_>,
    keeper: &CredentialStore<'_>,
    enrolled: &Enrolled,
    limit: Limit,
) -> Result<UnenrolOutcome> {
    let (settings, environment) = (&host.settings, host.environment);
    let client = Client::new(settings)?;
    let identity = host.state()?.snapshot.key.clone().ok_or_else(lost_key)?;
    let is_marked_here = keeper.mark_leaving(true)?;
    let hub = &settings.hub_url.value;
    let request = || wire::leave(hub, enrolled.agent_id, &enrolled.agent_token, &identity);
    let url = request().url.to_string();
    let mut was_lost = false;
    tracing::info!("telling {url} that this host leaves");
    let told = retry::until(&url, limit, environment, async || {
        let sent = client.send(request(), environment, limit.deadline).await;
        let outcome = response::classify_empty(&url, sent);
        was_lost |= matches!(outcome, Outcome::Wait { .. });
        Ok(outcome)
    })
    .await;
    let error = match told {
        Ok(()) => return Ok(UnenrolOutcome::Left),
        Err(error) => error,
    };
    let is_gone = error.id() == ErrorId::Rejected || error.cause().contains("HTTP 404");
    if error.id() == ErrorId::Rejected && (was_lost || !is_marked_here) {
        // An earlier try was cut off before its answer came: it was a yes.
        tracing::info!("the hub does not know this host any more: an earlier try had told it");
        return Ok(UnenrolOutcome::Ended);
    }
    if is_marked_here && !was_lost && error.id() != ErrorId::Unreachable {
        keeper.mark_leaving(false)?;
    }
    Err(if is_gone {
        forgotten(&error, &url)
    } else {
        error
    })
}

/// Removes the credential, and then what belongs to it.
fn clear(host: &Monsys<'_>, state: Option<&State>) -> Result<()> {
    let Monsys {
        settings,
        paths,
        environment,
        ..
    } = host;
    let state_fault = |error: &std::io::Error| paths.state_fault(error);
    // Somebody may have edited it while the hub was told.
    let file = settings.file.current()?;
    let mut entries = vec![("agent_id", Entry::Gone), ("agent_token", Entry::Gone)];
    if let Some(state) = state.filter(|state| state.enrolled_at.is_some()) {
        // What the token's defaults brought leaves with it; what is the host's own stays.
        let asked = &state.asked;
        let role = asked.role.clone();
        entries.push(("role", role.map_or(Entry::Gone, Entry::Text)));
        entries.push((
            "tags",
            if asked.tags.is_empty() {
                Entry::Gone
            } else {
                Entry::List(&asked.tags)
            },
        ));
    }
    let text = file.with(&entries)?;
    if !file.is(&text) {
        file.replace(&text, environment.access())
            .map_err(|error| paths.config_fault(&error))?;
    }
    let files = HostFiles::of(paths.identity_files()?)?;
    for path in &files.others {
        tracing::warn!(
            "{} is not what the agent writes there, and stays",
            path.display()
        );
    }
    let is_state = |path: &PathBuf| path.ends_with(crate::state::FILE);
    let (states, others): (Vec<_>, Vec<_>) = files.ours.into_iter().partition(is_state);
    for path in &others {
        atomic::remove(path).map_err(|error| state_fault(&error))?;
    }
    for path in HealthFile::of(&paths.state_dir, environment).paths() {
        // In /run/monsys, whatever stands there is the service's. It is only a note.
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
        atomic::remove(&scrubbed).map_err(|error| state_fault(&error))?;
    }
    for path in &states {
        atomic::remove(path).map_err(|error| state_fault(&error))?;
    }
    tracing::debug!(
        "removed the credential from {}",
        settings.config_path.display()
    );
    Ok(())
}

fn done(
    parting: UnenrolOutcome,
    agent_id: Option<Uuid>,
    changed: bool,
    host: &Monsys<'_>,
) -> Unenrolment {
    let Monsys {
        settings, paths, ..
    } = host;
    Unenrolment {
        parting,
        agent_id,
        hub_url: settings.hub_url.value.to_string(),
        changed,
        would_enrol_again: settings.token.is_some(),
        config: paths.config.clone(),
    }
}

const FORCE: &str = "to remove it from this host all the same: monsys-agent unenrol --force";

fn clone() -> Error {
    Error::new(
        ErrorId::NotEnrolled,
        "the identity on this disk belongs to another machine that this one was cloned from, and that one has not left",
    )
    .hint(FORCE)
}

fn unconfirmed() -> Error {
    Error::new(
        ErrorId::NotEnrolled,
        "agent.toml holds a per-agent token that no hub has confirmed, so there is no agent that could leave",
    )
    .hint(FORCE)
}

fn keyless() -> Error {
    Error::new(
        ErrorId::IdentityLost,
        "the hub lets a host go only by its signature, and the key is not there any more",
    )
    .hint(format!("an operator deletes the agent at the hub; {FORCE}"))
}

fn forgotten(error: &Error, url: &str) -> Error {
    Error::new(
        error.id(),
        format!(
            "{}; it may have forgotten this host already, or the token was rotated",
            error.cause()
        ),
    )
    .about(url)
    .hint(format!(
        "an operator looks up the agent at the hub; {FORCE}"
    ))
}
