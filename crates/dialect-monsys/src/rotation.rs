//! The rotation of an enrolled host's credential: a new per-agent token, or a new signing key.
//!
//! The old credential is replaced only after the hub has accepted the new one.

use std::path::PathBuf;

use uuid::Uuid;

use crate::exchange::exchange;
use crate::host_state::{Enrolled, EnrolmentState};
use crate::monsys::{Monsys, locked};
use crate::paths::KeyWrite;
use crate::plan::{PlannedRequest, lost_key};
use crate::recovery::{Recovery, recovered, roll_forward};
use agent_core::enrolment::{Enrolment, fetch_from};
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::hub::retry::Limit;
use agent_core::settings::Settings;
use agent_core::token::{Kind, Token};
use agent_core::token_source::TokenSource;

/// The result of a rotation.
#[derive(Debug)]
pub struct Rotation {
    /// The agent's id.
    pub agent_id: Uuid,
    /// The hub.
    pub hub_url: String,
    /// The host has another credential now.
    pub changed: bool,
    /// This run has only completed a rotation that an earlier run began.
    pub was_begun: bool,
    /// Path of agent.toml.
    pub config: PathBuf,
}

/// Makes a new signing key and has the hub pin it. An operator has unpinned the old key before.
///
/// # Errors
/// [`ErrorId::OtherKey`] when the old key is still pinned; the host then continues with it.
pub async fn rotate_key(flags: &Flags, environment: &Environment) -> Result<Rotation> {
    let before = Monsys::read(flags, environment)?;
    enrolled(&before)?;
    let limit = Limit::of(before.settings.wait.value);
    let (host, lock) = locked(before, limit).await?;
    let (host, recovered) = recovered(host, limit).await?;
    let current = enrolled(&host)?;
    let id = current.agent_id;
    let was_begun = match recovered {
        Recovery::Completed => true,
        Recovery::Dropped(error) => return Err(still_pinned(&error, id)),
        Recovery::Nothing => {
            host.paths
                .prove_writable(&host.settings, environment, KeyWrite::AfterRequest)?;
            let planned = PlannedRequest::new_key(current, &host.settings);
            let registered = exchange(&host, planned, None, limit).await;
            registered.map_err(|error| match error.id() {
                ErrorId::OtherKey => still_pinned(&error, id),
                _ => error,
            })?;
            false
        }
    };
    drop(lock);
    Ok(Rotation {
        agent_id: id,
        hub_url: host.settings.hub_url.value.to_string(),
        changed: true,
        was_begun,
        config: host.paths.config,
    })
}

/// Registers with a new per-agent token, and stores it in the place of the old one.
///
/// # Errors
/// A missing or malformed token, and the hub's rejection; the host then keeps the old token.
pub async fn rotate_token(flags: &Flags, environment: &Environment) -> Result<Rotation> {
    let before = Monsys::read(flags, environment)?;
    with_key(&before)?;
    let limit = Limit::of(before.settings.wait.value);
    let token = explicit_token(&before.settings, environment, limit).await?;
    let (host, lock) = locked(before, limit).await?;
    let host = if roll_forward(&host)? {
        host.read_again()?
    } else {
        host
    };
    let current = with_key(&host)?;
    let key = if current.is_next_key_unconfirmed {
        KeyWrite::AfterRequest
    } else {
        KeyWrite::Never
    };
    host.paths
        .prove_writable(&host.settings, environment, key)?;
    let old = &current.agent_token;
    let changed = token.secret().expose_secret() != old.expose_secret();
    register(&host, limit, token, current).await?;
    drop(lock);
    Ok(Rotation {
        agent_id: current.agent_id,
        hub_url: host.settings.hub_url.value.to_string(),
        changed,
        was_begun: false,
        config: host.paths.config.clone(),
    })
}

/// Registers with the new token. After an interrupted rotation of the key, the next key is tried first:
/// the old token may be invalid, and then no other request can complete that rotation.
async fn register(
    host: &Monsys<'_>,
    limit: Limit,
    token: Token,
    current: &Enrolled,
) -> Result<Enrolment> {
    let planned = PlannedRequest::new_token(current, &host.settings);
    match exchange(host, planned, Some(&token), limit).await {
        Err(error) if current.is_next_key_unconfirmed && error.id() == ErrorId::OtherKey => {}
        result => return result,
    }
    // The rejection has removed the next key, so the current key signs this request.
    let host = host.read_again()?;
    let planned = PlannedRequest::new_token(enrolled(&host)?, &host.settings);
    exchange(&host, planned, Some(&token), limit).await
}

fn with_key<'h>(host: &'h Monsys<'_>) -> Result<&'h Enrolled> {
    let enrolled = enrolled(host)?;
    if enrolled.key_is_lost {
        return Err(lost_key());
    }
    Ok(enrolled)
}

fn enrolled<'h>(host: &'h Monsys<'_>) -> Result<&'h Enrolled> {
    let cause = match host.enrolment_state()? {
        EnrolmentState::Enrolled(enrolled) => {
            enrolled.refuse_other_hub(&host.settings)?;
            return Ok(enrolled);
        }
        EnrolmentState::Clone(_) => {
            "the identity on this disk belongs to another machine that this one was cloned from"
        }
        EnrolmentState::New(_) => "agent.toml holds no credential that could be replaced",
        EnrolmentState::Unconfirmed(..) => {
            "agent.toml holds a per-agent token that no hub has confirmed"
        }
    };
    Err(Error::new(ErrorId::NotEnrolled, cause).about(host.paths.config.display()))
}

/// Fetches the token that a flag or the environment of this run names. A token source in agent.toml
/// does not count: it was for the enrolment.
async fn explicit_token(
    settings: &Settings,
    environment: &Environment,
    limit: Limit,
) -> Result<Token> {
    let source = settings
        .token
        .as_ref()
        .filter(|source| source.is_explicit());
    let Some(source) = source else {
        return Err(Error::new(
            ErrorId::TokenMissing,
            "a rotation needs the new per-agent token, and no token source is set",
        )
        .hint("printf %s \"$TOKEN\" | monsys-agent rotate-token --token-file -; or --token-file PATH, --token-command CMD, MONSYS_TOKEN"));
    };
    let parse = |text: &str| Token::parse(text, source);
    let token = fetch_from(source, &parse, environment, limit).await?;
    refuse_enrolment_token(&token, source)?;
    Ok(token)
}

fn refuse_enrolment_token(token: &Token, source: &TokenSource) -> Result<()> {
    if token.kind() == Kind::Agent {
        return Ok(());
    }
    Err(Error::new(
        ErrorId::TokenMalformed,
        "it is an enrolment token (`enrl_`), and a rotation needs a new per-agent token of this agent (`agt_`, `ms_`)",
    )
    .about(source)
    .hint("an operator makes one: POST /api/v1/agents/ID/rotate-token; to enrol again instead: monsys-agent enrol --force"))
}

/// Returns the error of a rotation whose old key is still pinned at the hub.
fn still_pinned(error: &Error, agent: Uuid) -> Error {
    let pinned = Error::new(
        ErrorId::OtherKey,
        "the hub has the current key pinned, so it accepts no other key; the host continues with the current key",
    )
    .hint(format!(
        "an operator unpins it (POST /api/v1/agents/{agent}/rotate-signing-key), then run again: monsys-agent rotate-key"
    ));
    match error.subject() {
        Some(subject) => pinned.about(subject),
        None => pinned,
    }
}
