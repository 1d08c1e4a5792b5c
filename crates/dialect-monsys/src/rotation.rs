//! A new credential for an enrolled host: a per-agent token, or a signing key. The old one is given
//! up only after the hub has taken the new one.

use std::path::PathBuf;

use uuid::Uuid;

use crate::monsys::locked;
use crate::paths::Paths;
use crate::plan::{Ask, lost_key};
use crate::run::Run;
use crate::settling::{Settled, end_confirmed, settle};
use crate::standing::{Enrolled, Standing};
use agent_core::enrolment::Enrolment;
use agent_core::environment::World;
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
pub async fn rotate_key(flags: &Flags, world: &World) -> Result<Rotation> {
    let before = Settings::resolve(flags, world)?;
    enrolled(&before, &Paths::of(&before, world), world)?;
    let limit = Limit::of(before.wait);
    let (settings, paths, lock) = locked(flags, world, limit).await?;
    let settled = settle(&settings, &paths, world, limit).await?;
    let settings = settled.read_again(settings, flags, world)?;
    let enrolled = enrolled(&settings, &paths, world)?;
    let id = enrolled.agent_id;
    let was_begun = match settled {
        Settled::Ended => true,
        Settled::Dropped(error) => return Err(still_pinned(&error, id)),
        Settled::Nothing => {
            paths.prove_writable(&settings, world.access())?;
            let ask = Ask::new_key(enrolled, &settings);
            let run = Run::new(&settings, &paths, world, limit)?;
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
        hub_url: settings.hub_url.value.to_string(),
        changed: true,
        was_begun,
        config: paths.config,
    })
}

/// Takes a new per-agent token: proves it against the hub, and puts it in the old one's place.
///
/// # Errors
/// The token's own, and what the hub says to it; the old one then stays.
pub async fn rotate_token(flags: &Flags, world: &World) -> Result<Rotation> {
    let before = Settings::resolve(flags, world)?;
    let paths = Paths::of(&before, world);
    let with_key = |settings: &Settings, paths: &Paths| {
        let enrolled = enrolled(settings, paths, world)?;
        if enrolled.key_is_lost {
            return Err(lost_key());
        }
        Ok(enrolled)
    };
    with_key(&before, &paths)?;
    let limit = Limit::of(before.wait);
    let token = given_token(&before, world, limit).await?;
    let (settings, paths, lock) = locked(flags, world, limit).await?;
    let settings = if end_confirmed(&settings, &paths, world)? {
        Settings::resolve(flags, world)?
    } else {
        settings
    };
    let enrolled = with_key(&settings, &paths)?;
    paths.prove_writable(&settings, world.access())?;
    let old = &enrolled.agent_token;
    let changed = token.secret().expose_secret() != old.expose_secret();
    prove(&settings, &paths, world, limit, token, &enrolled).await?;
    drop(lock);
    Ok(Rotation {
        agent_id: enrolled.agent_id,
        hub_url: settings.hub_url.value.to_string(),
        changed,
        was_begun: false,
        config: paths.config,
    })
}

/// Registers with the new token. Where a rotation of the key was interrupted, the key that waits is
/// tried first: the old token may be dead, so this is the only way left to end that too.
async fn prove(
    settings: &Settings,
    paths: &Paths,
    world: &World,
    limit: Limit,
    token: Token,
    enrolled: &Enrolled,
) -> Result<Enrolment> {
    let run = || Run::new(settings, paths, world, limit);
    let ask = Ask::new_token(enrolled, settings);
    match run()?.ask(ask, Some(&token)).await {
        Err(error) if enrolled.is_in_doubt && error.id() == ErrorId::OtherKey => {}
        proved => return proved,
    }
    // The key that waited is gone now, and no doubt is left.
    let enrolled = self::enrolled(settings, paths, world)?;
    run()?
        .ask(Ask::new_token(&enrolled, settings), Some(&token))
        .await
}

fn enrolled(settings: &Settings, paths: &Paths, world: &World) -> Result<Enrolled> {
    let cause = match Standing::of(settings, paths, world)? {
        Standing::Enrolled(enrolled) => return Ok(*enrolled),
        Standing::Clone(_) => {
            "the identity on this disk belongs to another machine that this one was cloned from"
        }
        Standing::New(_) => "agent.toml holds no credential that could be replaced",
        Standing::Unconfirmed(..) => "agent.toml holds a per-agent token that no hub has confirmed",
    };
    Err(Error::new(ErrorId::NotEnrolled, cause).about(paths.config.display()))
}

/// The token of this very run: what agent.toml names is how the host was admitted.
async fn given_token(settings: &Settings, world: &World, limit: Limit) -> Result<Token> {
    let source = settings.token.as_ref().filter(|source| source.is_asked());
    let Some(source) = source else {
        return Err(Error::new(
            ErrorId::TokenMissing,
            "the new per-agent token has to come from somewhere",
        )
        .hint("printf %s \"$TOKEN\" | monsys-agent rotate-token --token-file -; or --token-file PATH, --token-command CMD, MONSYS_TOKEN"));
    };
    let token = Token::parse(&source.fetch(world, limit.deadline).await?, source)?;
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
