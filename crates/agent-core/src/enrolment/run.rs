//! One run of an enrolment under the lock: the exchange, and the return to a hub that has forgotten the host.

use super::attempt::run_exchange;
use super::outcome::{Confirmation, Enrolment};
use super::secret_cleanup::SecretCleanup;
use super::{Read, fetch, locked};
use crate::enrolment::dialect::{Dialect, Plan, Prepare, WayBack};
use crate::environment::Environment;
use crate::error::{Error, ErrorId, Kind, Result};
use crate::hub::retry::Limit;
use crate::store::lock::Lock;
use crate::token::Token;

/// One run of an enrolment, from the lock on.
pub(super) struct Run<'r, 'a> {
    pub(super) read: &'r Read<'a>,
    pub(super) force: bool,
    pub(super) held: Option<&'r Lock>,
    pub(super) environment: &'r Environment,
    /// The limit until the hub answers, if nothing is to be changed.
    pub(super) brief: Limit,
    /// The limit of the whole run.
    pub(super) limit: Limit,
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
    pub(super) async fn enrol(
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
            Plan::Nothing | Plan::Repair => {
                let enrolment = Enrolment {
                    changed: host.repair()?,
                    ..host.enrolled()?
                };
                with_answer(&*host, enrolment, self.brief).await
            }
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
                    forgotten = also(forgotten, "by the receipt", &error);
                }
                returned => return returned,
            }
        }
        if secret.is_none() {
            match fetch(host, self.environment, self.limit).await {
                Ok(fetched) => secret = fetched,
                Err(error) => return Err(also(forgotten, "the token", &error)),
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
            Err(error) if is_refusal(&error) => Err(also(forgotten, "by the token", &error)),
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

/// Adds to the result of a host that was enrolled before, and for which the run has no request, what the hub says to
/// the host's own credential.
///
/// # Errors
/// The hub's rejection.
pub(super) async fn with_answer(
    host: &dyn Dialect,
    enrolment: Enrolment,
    limit: Limit,
) -> Result<Enrolment> {
    let asked = tokio::time::timeout_at(limit.deadline, host.ask_hub()).await;
    let confirmation = match asked.unwrap_or_else(|_| Err(no_answer())) {
        Ok(true) => Confirmation::Confirmed,
        Ok(false) => enrolment.confirmation,
        Err(error) if lacks_answer(&error) => Confirmation::NoAnswer(not_confirmed(&error)),
        Err(error) => return Err(error),
    };
    Ok(Enrolment {
        confirmation,
        ..enrolment
    })
}

fn no_answer() -> Error {
    Error::new(ErrorId::Unreachable, "no answer in time")
}

/// Returns whether the hub has answered no, so that another way is worth a try.
fn is_refusal(error: &Error) -> bool {
    let kind = error.id().kind();
    matches!(kind, Kind::Rejected | Kind::Refused | Kind::Protocol) && !error.is_after_acceptance()
}

/// Adds the failure of a way back to the error of a forgotten host.
fn also(forgotten: Error, way: &str, error: &Error) -> Error {
    let cause = format!("{}; {way}: {}", forgotten.cause(), error.cause());
    forgotten.with_cause(cause)
}

fn not_confirmed(error: &Error) -> Error {
    let confirmed = Error::new(ErrorId::NotConfirmed, error.cause());
    match error.subject() {
        Some(subject) => confirmed.about(subject),
        None => confirmed,
    }
}

/// Reads standard input where the secret of the run is there and was not needed.
pub(super) async fn pass_over(
    host: &dyn Dialect,
    secret: Option<&Token>,
    environment: &Environment,
) {
    if let (None, Some(source)) = (secret, &host.settings().token) {
        source.pass_over(environment).await;
    }
}
