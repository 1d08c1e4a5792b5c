//! A new credential for an enrolled host: a per-agent token, or a signing key. The old one is given
//! up only after the hub has taken the new one.

use std::path::PathBuf;

use uuid::Uuid;

use crate::exchange::Run;
use crate::host_state::{Enrolled, EnrolmentState};
use crate::monsys::{Monsys, locked};
use crate::plan::{Ask, lost_key};
use crate::recovery::{Recovery, end_confirmed, recovered};
use agent_core::enrolment::Enrolment;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::hub::retry::Limit;
use agent_core::settings::Settings;
use agent_core::token::{Kind, Token};
use agent_core::token_source::TokenSource;

/// What a rotation came to.
#[derive(Debug)]
pub struct Rotation {
    /// The agent's id.
    pub agent_id: Uuid,
    /// The hub.
    pub hub_url: String,
    /// Whether the host has another credential now.
    pub changed: bool,
    /// An earlier run had begun it.
    pub was_begun: bool,
    /// Where agent.toml is.
    pub config: PathBuf,
}

/// Makes a new signing key and has the hub pin it. An operator has unpinned the old one.
///
/// # Errors
/// [`ErrorId::OtherKey`] when nobody has unpinned it; the old key then stays.
pub async fn rotate_key(flags: &Flags, environment: &Environment) -> Result<Rotation> {
    let before = Monsys::read(flags, environment)?;
    enrolled(&before)?;
    let limit = Limit::of(before.settings.wait);
    let (host, lock) = locked(before, limit).await?;
    let (host, recovered) = recovered(host, limit).await?;
    let present = enrolled(&host)?;
    let id = present.agent_id;
    let was_begun = match recovered {
        Recovery::Ended => true,
        Recovery::Dropped(error) => return Err(still_pinned(&error, id)),
        Recovery::Nothing => {
            host.paths
                .prove_writable(&host.settings, environment.access())?;
            let ask = Ask::new_key(present, &host.settings);
            let run = Run::new(&host, limit)?;
            run.ask(ask, None).await.map_err(|error| match error.id() {
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

/// Takes a new per-agent token: proves it against the hub, and puts it in the old one's place.
///
/// # Errors
/// The token's own, and what the hub says to it; the old one then stays.
pub async fn rotate_token(flags: &Flags, environment: &Environment) -> Result<Rotation> {
    let before = Monsys::read(flags, environment)?;
    with_key(&before)?;
    let limit = Limit::of(before.settings.wait);
    let token = given_token(&before.settings, environment, limit).await?;
    let (host, lock) = locked(before, limit).await?;
    let host = if end_confirmed(&host)? {
        host.read_again()?
    } else {
        host
    };
    let present = with_key(&host)?;
    host.paths
        .prove_writable(&host.settings, environment.access())?;
    let old = &present.agent_token;
    let changed = token.secret().expose_secret() != old.expose_secret();
    prove(&host, limit, token, present).await?;
    drop(lock);
    Ok(Rotation {
        agent_id: present.agent_id,
        hub_url: host.settings.hub_url.value.to_string(),
        changed,
        was_begun: false,
        config: host.paths.config.clone(),
    })
}

/// Registers with the new token. Where a rotation of the key was interrupted, the key that waits is
/// tried first: the old token may be dead, so this is the only way left to end that too.
async fn prove(
    host: &Monsys<'_>,
    limit: Limit,
    token: Token,
    present: &Enrolled,
) -> Result<Enrolment> {
    let ask = Ask::new_token(present, &host.settings);
    match Run::new(host, limit)?.ask(ask, Some(&token)).await {
        Err(error) if present.is_in_doubt && error.id() == ErrorId::OtherKey => {}
        proved => return proved,
    }
    // The key that waited is gone now, and no doubt is left.
    let host = host.read_again()?;
    let ask = Ask::new_token(enrolled(&host)?, &host.settings);
    Run::new(&host, limit)?.ask(ask, Some(&token)).await
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
        EnrolmentState::Enrolled(enrolled) => return Ok(enrolled),
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

/// The token of this very run: what agent.toml names is how the host was admitted.
async fn given_token(
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
            "the new per-agent token has to come from somewhere",
        )
        .hint("printf %s \"$TOKEN\" | monsys-agent rotate-token --token-file -; or --token-file PATH, --token-command CMD, MONSYS_TOKEN"));
    };
    let token = Token::parse(&source.fetch(environment, limit.deadline).await?, source)?;
    refuse_enrolment_token(&token, source)?;
    Ok(token)
}

fn refuse_enrolment_token(token: &Token, source: &TokenSource) -> Result<()> {
    if token.kind() == Kind::Agent {
        return Ok(());
    }
    Err(Error::new(
        ErrorId::TokenMalformed,
        "it is an enrolment token (`enrl_`), and a rotation takes the new per-agent token of this very agent (`agt_`, `ms_`)",
    )
    .about(source)
    .hint("an operator gets one: POST /api/v1/agents/ID/rotate-token; to enrol anew instead: monsys-agent enrol --force"))
}

/// Nobody has unpinned the key.
fn still_pinned(error: &Error, agent: Uuid) -> Error {
    let told = Error::new(
        ErrorId::OtherKey,
        "the hub has the present key pinned, so no other one is taken; the present key stays, and the host goes on with it",
    )
    .hint(format!(
        "an operator unpins it (POST /api/v1/agents/{agent}/rotate-signing-key), then run again: monsys-agent rotate-key"
    ));
    match error.subject() {
        Some(subject) => told.about(subject),
        None => told,
    }
}
