//! One question after the other, each asked until the hub says yes or no.

use super::Enrolment;
use crate::enrolment::dialect::{Exchange, ExchangeStep};
use crate::environment::Environment;
use crate::error::{Error, ErrorId, Result};
use crate::facts::HostFacts;
use crate::facts::route::Target;
use crate::hub::response::Outcome;
use crate::hub::retry::{self, Limit};
use crate::settings::Settings;
use crate::token::Token;

/// What the hub may still say no to, without having given out a credential for an earlier try.
const REFUSALS: [ErrorId; 5] = [
    ErrorId::Rejected,
    ErrorId::Forbidden,
    ErrorId::OtherKey,
    ErrorId::Refused,
    ErrorId::Untrusted,
];

/// Asks until the deadline, and keeps what the hub confirms. `secret` is in no error and no line of
/// the log, whatever the hub repeats of it.
///
/// # Errors
/// What the hub says, that it cannot be reached, and what cannot be written.
pub async fn run_exchange(
    exchange: &mut dyn Exchange,
    secret: Option<&Token>,
    settings: &Settings,
    environment: &Environment,
    limit: Limit,
) -> Result<Enrolment> {
    let mut is_accepted = false;
    loop {
        let asked = request_until_accepted(exchange, secret, settings, environment, limit).await;
        let facts = match asked {
            Err(error) if is_accepted => return Err(error.after_acceptance()),
            asked => asked?,
        };
        is_accepted = true;
        let kept = exchange.persist(&facts).map_err(Error::after_acceptance)?;
        if let ExchangeStep::Enrolled(enrolment) = kept {
            return Ok(enrolment);
        }
    }
}

/// Asks one question until the hub says yes. The facts are gathered anew for each try: at the first
/// one, the network may not be up yet. Returns those that the hub has accepted.
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
    tracing::info!("asking {url}");
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
