//! The story itself: enrolled already?, lock, prove that the result can be written, exchange the
//! secret for a credential, merge, persist.
//!
//! What makes it safe to be killed anywhere: the host's key is on the disk before the first
//! request, and to the hub that key *is* the host. Whoever comes again with the same key gets the
//! same agent and spends no further use.

mod defer;
mod introduction;
mod leaving;
mod paths;
mod persist;
mod plan;
mod rotation;
mod run;
mod settling;
mod standing;
mod traces;

use std::path::PathBuf;
use std::time::Duration;

use uuid::Uuid;

pub use defer::{Deferred, defer};
pub use introduction::Introducer;
pub use leaving::{Leaving, Parting, unenrol};
pub use paths::{Paths, files};
pub use plan::lost_key;
pub use plan::{Ask, Call, Plan};
pub use rotation::{Rotation, rotate_key, rotate_token};
pub use settling::settle_now;
pub use standing::{Enrolled, Standing};

use crate::error::Result;
use crate::hub::retry::Limit;
use crate::settings::{Flags, Settings};
use crate::store::lock::Lock;
use crate::token::{Kind, Token};
use crate::world::World;
use run::Run;
use traces::Traces;

/// How long the service waits for a run that has the lock.
const MOMENT: Duration = Duration::from_millis(300);

/// What an enrolment came to.
#[derive(Debug)]
pub struct Enrolment {
    /// What was done.
    pub done: Done,
    /// The agent's id.
    pub agent_id: Uuid,
    /// The hub.
    pub hub_url: String,
    /// Tags, merged.
    pub tags: Vec<String>,
    /// Role, merged.
    pub role: Option<String>,
    /// Whether anything on the host was written.
    pub changed: bool,
    /// Where agent.toml is.
    pub config: PathBuf,
    /// Host name that the hub was told, when it was told.
    pub hostname: Option<String>,
    /// Files of cloud-init's that the enrolment token was scrubbed from.
    pub scrubbed: Vec<PathBuf>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// A new agent.
    Enrolled,
    /// The hub knew this host's key: the same agent, with a fresh credential.
    Recovered,
    /// A per-agent token was taken and the key pinned.
    Registered,
    /// Tags or role were changed with the host's own credential.
    Updated,
    /// Nothing had to be done; nothing was sent.
    AlreadyEnrolled,
}

impl Done {
    /// Stable word, as in `--output json`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Recovered => "recovered",
            Self::Registered => "registered",
            Self::Updated => "updated",
            Self::AlreadyEnrolled => "already_enrolled",
        }
    }
}

/// Enrols this host.
///
/// # Errors
/// Every failure of the catalogue that `enrol` can end with; see `docs/errors.md`.
pub async fn enrol(flags: &Flags, force: bool, world: &World) -> Result<Enrolment> {
    let mut traces = Traces::default();
    let mut enrolment = join(flags, force, &mut traces, world).await?;
    // Also when nothing had to be done: the run that enrolled this host may have been killed.
    enrolment.scrubbed = traces.scrub(world)?;
    Ok(enrolment)
}

async fn join(flags: &Flags, force: bool, traces: &mut Traces, world: &World) -> Result<Enrolment> {
    // What is wrong with the command, or needs nothing to be done, is told before anything on the
    // host is touched.
    let before = Settings::resolve(flags, world)?;
    let paths = Paths::of(&before, world);
    let mut limit = Limit::of(before.wait);
    let standing = Standing::of(&before, &paths, world)?;
    let token = if standing.takes_token(&before, force) {
        let token = fetch_token(&before, world, limit).await?;
        traces.note(&before, token.as_ref(), world);
        token
    } else {
        traces.look_for(&before, world, limit).await;
        None
    };
    let kind = token.as_ref().map(Token::kind);
    match plan::plan(standing, &before, kind, force)? {
        Plan::Already(enrolled) if paths.are_complete(&enrolled) => {
            return Ok(already(*enrolled, &paths));
        }
        Plan::Already(_) => {}
        Plan::Ask(_) => limit = limit.later(splay(&before, world).await),
    }
    drop(before);

    let (settings, paths, lock) = locked(flags, world, limit).await?;
    let (settings, _) = settling::settle(settings, flags, &paths, world, limit).await?;
    let run = Run::new(&settings, &paths, world, limit)?;
    let enrolment = run.go(token, force).await?;
    drop(lock);
    Ok(enrolment)
}

/// Whether a run of [`enrol`] would take the token that it is given, so that it has to be fetched.
///
/// # Errors
/// A broken agent.toml or key.
pub fn takes_token(settings: &Settings, force: bool, world: &World) -> Result<bool> {
    let standing = Standing::of(settings, &Paths::of(settings, world), world)?;
    Ok(standing.takes_token(settings, force))
}

/// What a run of [`enrol`] would do, without network and without changing anything.
///
/// # Errors
/// What [`enrol`] would end with before it asks the hub.
pub fn preview(
    settings: &Settings,
    token: Option<Kind>,
    force: bool,
    world: &World,
) -> Result<Plan> {
    let standing = Standing::of(settings, &Paths::of(settings, world), world)?;
    let token = match standing {
        // The token that a run needs is an enrolment token more often than not.
        Standing::New(_) | Standing::Clone(_) => token.or(Some(Kind::Enrolment)),
        _ => token,
    };
    plan::plan(standing, settings, token, force)
}

/// Takes the lock. Whoever held it before may have enrolled this host, so the settings are read
/// again under it; should they name another state directory now, that one's lock counts.
async fn locked(flags: &Flags, world: &World, limit: Limit) -> Result<(Settings, Paths, Lock)> {
    let mut paths = Paths::of(&Settings::resolve(flags, world)?, world);
    loop {
        paths.make_folders()?;
        let lock = Lock::take(&paths.state_dir, limit.deadline).await?;
        let settings = Settings::resolve(flags, world)?;
        let now = Paths::of(&settings, world);
        if now.state_dir == paths.state_dir {
            return Ok((settings, now, lock));
        }
        paths = now;
    }
}

async fn fetch_token(settings: &Settings, world: &World, limit: Limit) -> Result<Option<Token>> {
    match &settings.token {
        Some(source) => {
            let token = source.fetch(world, limit.deadline).await?;
            tracing::debug!("{} from {source}", token.kind());
            Ok(Some(token))
        }
        None => Ok(None),
    }
}

/// Waits a random time, if asked to; returns how long.
async fn splay(settings: &Settings, world: &World) -> Duration {
    let pause = world.random_up_to(settings.splay.value);
    if pause > Duration::ZERO {
        tracing::info!("first try in {:.1} s (splay)", pause.as_secs_f64());
        tokio::time::sleep(pause).await;
    }
    pause
}

fn already(enrolled: Enrolled, paths: &Paths) -> Enrolment {
    Enrolment {
        done: Done::AlreadyEnrolled,
        agent_id: enrolled.agent_id,
        hub_url: enrolled.hub_url,
        tags: enrolled.tags,
        role: enrolled.role,
        changed: false,
        config: paths.config.clone(),
        hostname: None,
        scrubbed: Vec::new(),
    }
}
