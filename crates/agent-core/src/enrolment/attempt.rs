//! The requests of an exchange, each sent until the hub accepts or rejects it.

use super::Enrolment;
use crate::enrolment::dialect::{Exchange, ExchangeStep, FutureResult};
use crate::environment::Environment;
use crate::error::{Error, ErrorId, Result};
use crate::facts::HostFacts;
use crate::facts::route::Target;
use crate::hub::response::Outcome;
use crate::hub::retry::{self, Limit};
use crate::settings::Settings;
use crate::token::Token;

/// Rejections after which it is certain that the hub issued no credential for an earlier try.
const REFUSALS: [ErrorId; 6] = [
    ErrorId::Rejected,
    ErrorId::Forbidden,
    ErrorId::OtherKey,
    ErrorId::Refused,
    ErrorId::Untrusted,
    ErrorId::ProxyUntrusted,
];

/// Sends the requests of `exchange` until the deadline, and stores the results that the hub confirms. `secret`
/// appears in no error and no line of the log, even when the hub repeats it.
///
/// # Errors
/// The hub's rejection, an unreachable hub, and files that cannot be written.
pub fn run_exchange<'a>(
    exchange: &'a mut dyn Exchange,
    secret: Option<&'a Token>,
    settings: &'a Settings,
    environment: &'a Environment,
    limit: Limit,
) -> FutureResult<'a, Enrolment> {
    Box::pin(async move {
        let mut is_accepted = false;
        loop {
            let accepted =
                request_until_accepted(exchange, secret, settings, environment, limit).await;
            let facts = match accepted {
                Err(error) if is_accepted => return Err(error.after_acceptance()),
                accepted => accepted?,
            };
            is_accepted = true;
            let step = exchange.persist(&facts).map_err(Error::after_acceptance)?;
            if let ExchangeStep::Enrolled(enrolment) = step {
                return Ok(enrolment);
            }
        }
    })
}

/// Sends one request until the hub accepts it. The facts are gathered again for each try, since the network may
/// not be up at the first one. Returns the facts that the hub has accepted.
async fn request_until_accepted(
    exchange: &mut dyn Exchange,
    secret: Option<&Token>,
    settings: &Settings,
    environment: &Environment,
    limit: Limit,
) -> Result<HostFacts> {
    let url = exchange.url();
    let hiding = |error: Error| match secret {
        Some(secret) => error.hiding(secret.secret().expose_secret()),
        None => error,
    };
    let mut is_certain = true;
    tracing::info!("sending a request to {url}");
    let answer = retry::until(&url, limit, environment, async || {
        let target = Target::resolve(settings).await;
        let facts = HostFacts::gather(settings, environment, &target);
        let request = exchange.request(&facts)?;
        tracing::debug!("{} bytes to {url}", request.body.len());
        let sent = exchange
            .client()
            .send(request, environment, limit.deadline)
            .await;
        Ok(match exchange.classify(&url, sent) {
            Outcome::Done(()) => Outcome::Done(facts),
            Outcome::Stop(error) => Outcome::Stop(hiding(error)),
            Outcome::Wait { error, retry_after } => {
                is_certain = false;
                Outcome::Wait {
                    error: hiding(error),
                    retry_after,
                }
            }
        })
    })
    .await;
    answer.map_err(|error| {
        let is_certain = is_certain && REFUSALS.contains(&error.id());
        exchange.refused(error, is_certain)
    })
}
