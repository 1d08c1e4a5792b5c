//! The enrolment workflow: check whether the host is enrolled, take the lock, prove that the result can be
//! written, exchange the secret for a credential, and store the credential.
//!
//! Each dialect makes the workflow safe against SIGKILL at any point: [`Prepare::prepare`] writes the files that
//! have to exist before the first request, and [`Dialect::recover`] or [`Dialect::repair`] of the next run
//! completes an interrupted one.

mod attempt;
pub mod dialect;
mod offline;
pub mod outcome;
mod run;
mod secret;
mod secret_cleanup;
pub mod step_record;

use std::path::PathBuf;
use std::time::Duration;

pub use attempt::run_exchange;
pub use dialect::{
    Descriptor, Dialect, Exchange, ExchangeStep, FlagScope, Folder, FutureResult, OwnFlag, Plan,
    Prepare, Preview, StatusReport, WayBack, checked, step_record_in,
};
pub use outcome::{ChangedSetting, Cleanup, Confirmation, Done, Enrolment, ReportField};
pub use secret::{fetch, fetch_from};
pub use secret_cleanup::scrub_again;

use crate::environment::Environment;
use crate::error::{Error, ErrorId, Result};
use crate::hub::retry::Limit;
use crate::settings::Settings;
use crate::sourced::Source;
use crate::store::atomic::{self, Grant};
use crate::store::lock::Lock;
use crate::store::unwritable;
use crate::token::Token;
use run::{Run, pass_over, with_answer};
use secret_cleanup::SecretCleanup;

/// Time for the confirmation of a host that is enrolled already, unless `--wait` is set.
const CONFIRMATION: Duration = Duration::from_secs(10);

/// A function that reads the host. All callers share this type, so the workflow is compiled once and not once for
/// each caller.
pub type Read<'a> = dyn Fn() -> Result<Box<dyn Dialect + 'a>> + 'a;

/// Enrols the host that `read` reads, and then scrubs the secret from cloud-init's files.
///
/// # Errors
/// Wrong settings, broken files of the host, a secret that cannot be fetched or is not valid, the hub's
/// rejection, and files that cannot be written.
pub fn enrol_by<'a>(
    read: &'a Read<'_>,
    force: bool,
    held: Option<&'a Lock>,
    environment: &'a Environment,
) -> FutureResult<'a, Enrolment> {
    Box::pin(async move {
        let mut cleanup = SecretCleanup::default();
        let mut enrolment = run(read, force, held, &mut cleanup, environment).await?;
        // Also when the host is enrolled already: the run that enrolled it may have been killed.
        enrolment.cleanup = cleanup.scrub(environment);
        Ok(enrolment)
    })
}

async fn run(
    read: &Read<'_>,
    force: bool,
    held: Option<&Lock>,
    cleanup: &mut SecretCleanup,
    environment: &Environment,
) -> Result<Enrolment> {
    // Errors of the command are reported before any change on the host.
    let before = read()?;
    let settings = before.settings();
    let mut limit = Limit::of(settings.wait.value);
    *cleanup = SecretCleanup::of(&*before, environment);
    if settings.offline {
        let enrolled = offline::enrolled(&*before)?;
        cleanup.find_secret(&*before, environment, limit).await;
        return Ok(enrolled);
    }
    let secret = if before.takes_secret(force)? {
        let secret = fetch(&*before, environment, limit).await?;
        cleanup.remember(secret.as_ref());
        secret
    } else {
        cleanup.find_secret(&*before, environment, limit).await
    };
    let plan = before.plan(secret.as_ref().map(Token::kind), force)?;
    let is_confirmation = matches!(plan, Plan::Confirm(_));
    let is_nothing = matches!(plan, Plan::Nothing);
    let sends = is_confirmation || matches!(plan, Plan::Exchange(_));
    drop(plan);
    if sends {
        limit = limit.later(splay(settings, environment).await);
    }
    let is_brief = (is_confirmation || is_nothing) && settings.wait.source == Source::Default;
    let brief = if is_brief {
        Limit::of(CONFIRMATION)
    } else {
        limit
    };
    if is_nothing {
        pass_over(&*before, secret.as_ref(), environment).await;
        return with_answer(&*before, before.enrolled()?, brief).await;
    }
    let run = Run {
        read,
        force,
        held,
        environment,
        brief,
        limit,
    };
    run.enrol(before, secret, cleanup, is_confirmation).await
}

/// Confirms an enrolled host at its hub. Takes the host back to a hub that has forgotten it. For the service's
/// step, which has the time of `limit` and tries again later.
///
/// # Errors
/// As [`enrol_by`], and [`ErrorId::Unreachable`] when the hub does not answer.
pub fn confirm_by<'a>(
    read: &'a Read<'_>,
    limit: Limit,
    environment: &'a Environment,
) -> FutureResult<'a, Enrolment> {
    Box::pin(async move {
        let run = Run {
            read,
            force: false,
            held: None,
            environment,
            brief: limit,
            limit,
        };
        // The step scrubs after this.
        let mut cleanup = SecretCleanup::default();
        run.enrol(read()?, None, &mut cleanup, false).await
    })
}

/// Creates the folders of the host as read `before`, and takes the lock, unless `held` is that lock. Then reads
/// the host again, since the previous owner of the lock may have enrolled it. If the host names another folder
/// now, the lock of that folder counts.
///
/// # Errors
/// Files that cannot be read, folders that cannot be created, and [`crate::error::ErrorId::LockBusy`] at the
/// deadline.
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
        let (path, error_id) = place(&host)
            .ok_or_else(|| Error::new(ErrorId::Internal, "there is no folder for the lock"))?;
        let name = view(&host).lock_name();
        let is_held = held.is_some_and(|held| held.is(&path, name));
        let lock = if is_held {
            None
        } else {
            Lock::take_or(error_id, &path, name, limit.deadline).await?
        };
        let has_lock = is_held || lock.is_some();
        // The previous owner of the lock may also have added or removed the service's group.
        environment.forget_access();
        let now = read()?;
        if has_lock && place(&now) == place(&host) {
            update_access(view(&now), &before);
            return Ok((now, lock));
        }
        host = now;
    }
}

/// Creates the missing folders of `host`. Returns each folder with its intended access.
fn make_folders(host: &dyn Dialect) -> Result<Vec<(PathBuf, Grant)>> {
    let folders = host.folders();
    for folder in &folders {
        atomic::make_folder(&folder.path, folder.grant)
            .map_err(|(path, error)| unwritable(folder.error_id, &path, &error))?;
    }
    let grants = folders.into_iter();
    Ok(grants.map(|folder| (folder.path, folder.grant)).collect())
}

/// Updates the access of folders that were created for an earlier group of the service. A folder with any other
/// access is the operator's, and stays as it is.
fn update_access(host: &dyn Dialect, before: &[(PathBuf, Grant)]) {
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

/// Waits for a random time up to the setting `splay`. Returns that time.
async fn splay(settings: &Settings, environment: &Environment) -> Duration {
    let pause = environment.random_up_to(settings.splay.value);
    if pause > Duration::ZERO {
        tracing::info!("first try in {:.1} s (splay)", pause.as_secs_f64());
        tokio::time::sleep(pause).await;
    }
    pause
}
