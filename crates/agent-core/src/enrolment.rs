//! The story itself: enrolled already?, lock, prove that the result can be written, exchange the
//! secret for a credential, put it into its sink.
//!
//! What makes it safe to be killed anywhere is each dialect's own: what has to be on the disk before
//! the first request leaves is made by [`Dialect::exchange`], and whatever a killed run leaves is
//! ended by [`Dialect::recover`] or [`Dialect::repair`] of the next one.

mod attempt;
pub mod dialect;
pub mod outcome;
mod secret_cleanup;
pub mod step_record;

use std::path::PathBuf;
use std::time::Duration;

pub use attempt::run_exchange;
pub use dialect::{
    Descriptor, Dialect, Exchange, ExchangeStep, FlagScope, Folder, FutureResult, OwnFlag, Plan,
    Prepare, Preview, StatusReport, checked,
};
pub use outcome::{Done, Enrolment, ReportField};
pub use secret_cleanup::{Cleanup, scrub_again};

use crate::environment::Environment;
use crate::error::{Error, ErrorId, Result};
use crate::hub::retry::Limit;
use crate::settings::Settings;
use crate::store::atomic::{self, Grant};
use crate::store::lock::Lock;
use crate::store::unwritable;
use crate::token::Token;
use secret_cleanup::SecretCleanup;

/// Reads the host. One type for all callers: each copy of the workflow would cost 30 KB of the binary.
pub type Read<'a> = dyn Fn() -> Result<Box<dyn Dialect + 'a>> + 'a;

/// Enrols the host that `read` reads: for a dialect that has something to add to it.
///
/// # Errors
/// As [`enrol`].
pub async fn enrol_by<'a>(
    read: &Read<'a>,
    force: bool,
    held: Option<&Lock>,
    environment: &Environment,
) -> Result<Enrolment> {
    let mut traces = SecretCleanup::default();
    let mut enrolment = join(read, force, held, &mut traces, environment).await?;
    // Also when nothing had to be done: the run that enrolled this host may have been killed.
    enrolment.cleanup = traces.scrub(environment);
    Ok(enrolment)
}

async fn join<'a>(
    read: &Read<'a>,
    force: bool,
    held: Option<&Lock>,
    traces: &mut SecretCleanup,
    environment: &Environment,
) -> Result<Enrolment> {
    // What is wrong with the command, or needs nothing to be done, is told before anything on the
    // host is touched.
    let before = read()?;
    let mut limit = Limit::of(before.settings().wait);
    let mut secret = None;
    *traces = SecretCleanup::of(&*before, environment);
    if before.takes_secret(force)? {
        secret = fetch(&*before, environment, limit).await?;
        traces.note(secret.as_ref());
    } else {
        traces.look_for(&*before, environment, limit).await;
    }
    match before.plan(secret.as_ref().map(Token::kind), force)? {
        Plan::Nothing => {
            if let (None, Some(source)) = (&secret, &before.settings().token) {
                source.pass_over(environment).await;
            }
            return before.enrolled();
        }
        Plan::Repair => {}
        Plan::Exchange(_) => limit = limit.later(splay(before.settings(), environment).await),
    }

    let (mut host, lock) = locked(before, read, |host| &**host, held, limit, environment).await?;
    host.recover(limit).await?;
    // It may have been enrolled when this run began, and no longer be so.
    if secret.is_none() && host.takes_secret(force)? {
        secret = fetch(&*host, environment, limit).await?;
        traces.note(secret.as_ref());
    }
    let enrolment = match host.plan(secret.as_ref().map(Token::kind), force)? {
        Plan::Nothing | Plan::Repair => Enrolment {
            changed: host.repair()?,
            ..host.enrolled()?
        },
        Plan::Exchange(decided) => {
            host.prove_writable()?;
            let secret = secret.as_ref();
            let mut exchange = decided.prepare(secret, limit).await?;
            run_exchange(&mut *exchange, secret, host.settings(), environment, limit).await?
        }
    };
    drop(lock);
    Ok(enrolment)
}

/// Makes the folders of the host as it was `before`, and takes the lock, unless `held` is that lock.
/// Whoever held it before may have enrolled this host, so all is read again under it; should it name
/// another folder now, that one's lock counts.
///
/// # Errors
/// What cannot be read or made, and [`crate::error::ErrorId::LockBusy`] at the deadline.
pub async fn locked<D>(
    before: D,
    read: impl Fn() -> Result<D>,
    view: impl for<'v> Fn(&'v D) -> &'v dyn Dialect,
    held: Option<&Lock>,
    limit: Limit,
    environment: &Environment,
) -> Result<(D, Option<Lock>)> {
    let place = |host: &D| {
        let folder = view(host).folders().into_iter().next();
        folder.map(|folder| (folder.path, folder.error_id))
    };
    let mut host = before;
    loop {
        let before = make_folders(view(&host))?;
        let (path, fault) = place(&host)
            .ok_or_else(|| Error::new(ErrorId::Internal, "there is no place for the lock"))?;
        let name = view(&host).lock_name();
        let is_held = held.is_some_and(|held| held.is(&path, name));
        let lock = if is_held {
            None
        } else {
            Lock::take_or(fault, &path, name, limit.deadline).await?
        };
        let has_lock = is_held || lock.is_some();
        // Whoever held the lock before may have made or removed the service's group too.
        environment.forget_access();
        let now = read()?;
        if has_lock && place(&now) == place(&host) {
            share_anew(view(&now), &before);
            return Ok((now, lock));
        }
        host = now;
    }
}

/// Makes the folders of `host` that are missing. Returns what each is to be.
fn make_folders(host: &dyn Dialect) -> Result<Vec<(PathBuf, Grant)>> {
    let folders = host.folders();
    for folder in &folders {
        atomic::make_folder(&folder.path, folder.grant)
            .map_err(|(path, error)| unwritable(folder.error_id, &path, &error))?;
    }
    let grants = folders.into_iter();
    Ok(grants.map(|folder| (folder.path, folder.grant)).collect())
}

/// Gives the folders that were made for a group of the service that is another one by now, or is gone,
/// to who reads them now. A folder of any other access is the operator's.
fn share_anew(host: &dyn Dialect, before: &[(PathBuf, Grant)]) {
    for folder in host.folders() {
        let stale = before
            .iter()
            .find(|(path, grant)| *path == folder.path && *grant != folder.grant);
        let Some((path, stale)) = stale.filter(|_| !folder.is_foreign) else {
            continue;
        };
        if atomic::has_access(path, *stale)
            && let Err(error) = atomic::set_access(path, folder.grant)
        {
            tracing::warn!("{}: {error}", path.display());
        }
    }
}

/// The secret that this run was given, if it was.
///
/// # Errors
/// Why it cannot be had, and what is wrong with it.
pub async fn fetch(
    host: &dyn Dialect,
    environment: &Environment,
    limit: Limit,
) -> Result<Option<Token>> {
    let Some(source) = &host.settings().token else {
        return Ok(None);
    };
    let text = source.fetch(environment, limit.deadline).await?;
    let secret = host.read_secret(&text, source)?;
    tracing::debug!("{} from {source}", secret.kind());
    Ok(Some(secret))
}

/// Waits a random time, if asked to; returns how long.
async fn splay(settings: &Settings, environment: &Environment) -> Duration {
    let pause = environment.random_up_to(settings.splay.value);
    if pause > Duration::ZERO {
        tracing::info!("first try in {:.1} s (splay)", pause.as_secs_f64());
        tokio::time::sleep(pause).await;
    }
    pause
}
