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
mod secret_cleanup;
pub mod step_record;

use std::path::PathBuf;
use std::time::Duration;

pub use attempt::run_exchange;
pub use dialect::{
    Descriptor, Dialect, Exchange, ExchangeStep, FlagScope, Folder, FutureResult, OwnFlag, Plan,
    Prepare, Preview, StatusReport, WayBack, checked,
};
pub use outcome::{ChangedSetting, Cleanup, Confirmation, Done, Enrolment, ReportField};
pub use secret_cleanup::scrub_again;

use crate::environment::Environment;
use crate::error::{Error, ErrorId, Kind, Result};
use crate::hub::retry::Limit;
use crate::settings::Settings;
use crate::sourced::Source;
use crate::store::atomic::{self, Grant};
use crate::store::lock::Lock;
use crate::store::unwritable;
use crate::token::Token;
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
pub async fn enrol_by(
    read: &Read<'_>,
    force: bool,
    held: Option<&Lock>,
    environment: &Environment,
) -> Result<Enrolment> {
    let mut cleanup = SecretCleanup::default();
    let mut enrolment = run(read, force, held, &mut cleanup, environment).await?;
    // Also when the host is enrolled already: the run that enrolled it may have been killed.
    enrolment.cleanup = cleanup.scrub(environment);
    Ok(enrolment)
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
    if matches!(plan, Plan::Nothing) {
        pass_over(&*before, secret.as_ref(), environment).await;
        return before.enrolled();
    }
    let is_confirmation = matches!(plan, Plan::Confirm(_));
    let sends = is_confirmation || matches!(plan, Plan::Exchange(_));
    drop(plan);
    if sends {
        limit = limit.later(splay(settings, environment).await);
    }
    let is_brief = is_confirmation && settings.wait.source == Source::Default;
    let run = Run {
        read,
        force,
        held,
        environment,
        brief: if is_brief {
            Limit::of(CONFIRMATION)
        } else {
            limit
        },
        limit,
    };
    run.enrol(before, secret, cleanup, is_confirmation).await
}

/// Confirms an enrolled host at its hub. Takes the host back to a hub that has forgotten it. For the service's
/// step, which has the time of `limit` and tries again later.
///
/// # Errors
/// As [`enrol_by`], and [`ErrorId::Unreachable`] when the hub does not answer.
pub async fn confirm_by(
    read: &Read<'_>,
    limit: Limit,
    environment: &Environment,
) -> Result<Enrolment> {
    let mut cleanup = SecretCleanup::default();
    let run = Run {
        read,
        force: false,
        held: None,
        environment,
        brief: limit,
        limit,
    };
    let mut enrolment = run.enrol(read()?, None, &mut cleanup, false).await?;
    enrolment.cleanup = cleanup.scrub(environment);
    Ok(enrolment)
}

/// One run of an enrolment, from the lock on.
struct Run<'r, 'a> {
    read: &'r Read<'a>,
    force: bool,
    held: Option<&'r Lock>,
    environment: &'r Environment,
    /// The limit until the hub answers, if nothing is to be changed.
    brief: Limit,
    /// The limit of the whole run.
    limit: Limit,
}

/// The result of the first exchange.
enum FirstExchange<'a> {
    Completed(Enrolment),
    /// The hub has forgotten the host, which was read under the lock.
    Forgotten {
        host: Box<dyn Dialect + 'a>,
        lock: Option<Lock>,
        secret: Option<Token>,
        error: Error,
    },
}

impl<'a> Run<'_, 'a> {
    /// Enrols the host. With `is_confirmation`, nothing is to be changed, so an answer of the hub is not
    /// necessary.
    async fn enrol(
        &self,
        before: Box<dyn Dialect + 'a>,
        secret: Option<Token>,
        cleanup: &mut SecretCleanup,
        is_confirmation: bool,
    ) -> Result<Enrolment> {
        match self
            .first_exchange(before, secret, cleanup, is_confirmation)
            .await
        {
            Ok(FirstExchange::Completed(enrolment)) => Ok(enrolment),
            Ok(FirstExchange::Forgotten {
                host,
                lock,
                secret,
                error,
            }) => {
                let returned = self.return_to_hub(&*host, secret, cleanup, error).await;
                drop(lock);
                returned
            }
            Err(error) if is_confirmation && lacks_answer(&error) => {
                let host = (self.read)()?;
                pass_over(&*host, None, self.environment).await;
                Ok(Enrolment {
                    confirmation: Confirmation::NoAnswer(not_confirmed(&error)),
                    ..host.enrolled()?
                })
            }
            Err(error) => Err(error),
        }
    }

    async fn first_exchange(
        &self,
        before: Box<dyn Dialect + 'a>,
        mut secret: Option<Token>,
        cleanup: &mut SecretCleanup,
        is_confirmation: bool,
    ) -> Result<FirstExchange<'a>> {
        let environment = self.environment;
        let locked = locked(
            before,
            self.read,
            |host| &**host,
            self.held,
            self.brief,
            environment,
        );
        let (mut host, lock) = match locked.await {
            // A confirmation writes nothing, so a disk that cannot be written does not matter.
            Err(error) if is_confirmation && error.id().kind() == Kind::Unwritable => {
                tracing::debug!("{}: {}", error.what(), error.cause());
                ((self.read)()?, None)
            }
            locked => locked?,
        };
        host.recover(self.brief).await?;
        // The host may have been unenrolled since the begin of this run.
        if secret.is_none() && host.takes_secret(self.force)? {
            secret = fetch(&*host, environment, self.limit).await?;
            cleanup.remember(secret.as_ref());
        }
        let exchanged = match host.plan(secret.as_ref().map(Token::kind), self.force)? {
            Plan::Nothing | Plan::Repair => Ok(Enrolment {
                changed: host.repair()?,
                ..host.enrolled()?
            }),
            Plan::Confirm(decided) => {
                let is_repaired = host.repair()?;
                let confirmed = self.exchange(&*host, decided, None, self.brief).await;
                confirmed.map(|enrolment| Enrolment {
                    changed: enrolment.changed || is_repaired,
                    ..enrolment
                })
            }
            Plan::Exchange(decided) => {
                host.prove_writable()?;
                self.exchange(&*host, decided, secret.as_ref(), self.limit)
                    .await
            }
        };
        match exchanged {
            Ok(enrolment) => {
                drop(lock);
                pass_over(&*host, secret.as_ref(), environment).await;
                Ok(FirstExchange::Completed(enrolment))
            }
            Err(error) if error.id() == ErrorId::Forgotten => Ok(FirstExchange::Forgotten {
                host,
                lock,
                secret,
                error,
            }),
            Err(error) => Err(error),
        }
    }

    /// Takes the host back to a hub that has forgotten it: by the hub's receipt, then by the secret of this run.
    async fn return_to_hub(
        &self,
        host: &dyn Dialect,
        mut secret: Option<Token>,
        cleanup: &mut SecretCleanup,
        mut forgotten: Error,
    ) -> Result<Enrolment> {
        tracing::info!("{}: {}", forgotten.what(), forgotten.cause());
        host.prove_writable()?;
        if let Some(decided) = host.plan_return(WayBack::Receipt)? {
            tracing::info!("returning to the hub by its receipt");
            match self.exchange(host, decided, None, self.limit).await {
                Err(error) if is_refusal(&error) => {
                    forgotten = also(&forgotten, "by the receipt", &error);
                }
                returned => return returned,
            }
        }
        if secret.is_none() {
            match fetch(host, self.environment, self.limit).await {
                Ok(fetched) => secret = fetched,
                Err(error) => return Err(also(&forgotten, "the token", &error)),
            }
            cleanup.remember(secret.as_ref());
        }
        let Some(token) = &secret else {
            return Err(forgotten);
        };
        let Some(decided) = host.plan_return(WayBack::Secret(token.kind()))? else {
            return Err(forgotten);
        };
        tracing::info!("returning to the hub by the token");
        match self.exchange(host, decided, Some(token), self.limit).await {
            Err(error) if is_refusal(&error) => Err(also(&forgotten, "by the token", &error)),
            returned => returned,
        }
    }

    async fn exchange<'h>(
        &self,
        host: &'h dyn Dialect,
        decided: Box<dyn Prepare<'h> + 'h>,
        secret: Option<&'h Token>,
        limit: Limit,
    ) -> Result<Enrolment> {
        let mut exchange = decided.prepare(secret, limit).await?;
        let settings = host.settings();
        run_exchange(&mut *exchange, secret, settings, self.environment, limit).await
    }
}

/// Returns whether the hub has not answered. A page of a proxy, or a redirect, does not come from a hub.
fn lacks_answer(error: &Error) -> bool {
    matches!(error.id().kind(), Kind::Unreachable | Kind::Protocol)
}

/// Returns whether the hub has answered no, so that another way is worth a try.
fn is_refusal(error: &Error) -> bool {
    let kind = error.id().kind();
    matches!(kind, Kind::Rejected | Kind::Refused | Kind::Protocol) && !error.is_after_acceptance()
}

/// Adds the failure of a way back to the error of a forgotten host.
fn also(forgotten: &Error, way: &str, error: &Error) -> Error {
    let cause = format!("{}; {way}: {}", forgotten.cause(), error.cause());
    let about = forgotten.subject().map(str::to_owned);
    let again = Error::new(forgotten.id(), cause).hint(forgotten.next_step());
    match about {
        Some(about) => again.about(about),
        None => again,
    }
}

fn not_confirmed(error: &Error) -> Error {
    let confirmed = Error::new(ErrorId::NotConfirmed, error.cause());
    match error.subject() {
        Some(subject) => confirmed.about(subject),
        None => confirmed,
    }
}

/// Reads standard input where the secret of the run is there and was not needed.
async fn pass_over(host: &dyn Dialect, secret: Option<&Token>, environment: &Environment) {
    if let (None, Some(source)) = (secret, &host.settings().token) {
        source.pass_over(environment).await;
    }
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

/// Fetches the secret of this run, if the settings name a source.
///
/// # Errors
/// A secret that cannot be fetched or is not valid.
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

/// Waits for a random time up to the setting `splay`. Returns that time.
async fn splay(settings: &Settings, environment: &Environment) -> Duration {
    let pause = environment.random_up_to(settings.splay.value);
    if pause > Duration::ZERO {
        tracing::info!("first try in {:.1} s (splay)", pause.as_secs_f64());
        tokio::time::sleep(pause).await;
    }
    pause
}
