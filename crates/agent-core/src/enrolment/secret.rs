//! The fetch of the secret, which is tried again as the hub is: a policy that allows a host to read its token may
//! become active minutes after the boot, and a file may be written by a service that starts later.

use std::time::Duration;

use crate::enrolment::dialect::{Dialect, FutureResult};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::hub::retry::{Limit, Tries};
use crate::token::Token;
use crate::token_source::{FetchError, ONE_RUN, TokenSource};

/// Fetches the secret of this run, if the settings name a source.
///
/// # Errors
/// A secret that cannot be fetched or is not valid.
pub fn fetch<'a>(
    host: &'a dyn Dialect,
    environment: &'a Environment,
    limit: Limit,
) -> FutureResult<'a, Option<Token>> {
    Box::pin(async move {
        let Some(source) = &host.settings().token else {
            return Ok(None);
        };
        let read = |text: &str| host.read_secret(text, source);
        fetch_from(source, &read, environment, limit)
            .await
            .map(Some)
    })
}

/// Fetches the secret of `source`, which `read` parses.
///
/// # Errors
/// As [`fetch`].
pub fn fetch_from<'a>(
    source: &'a TokenSource,
    read: &'a dyn Fn(&str) -> Result<Token>,
    environment: &'a Environment,
    limit: Limit,
) -> FutureResult<'a, Token> {
    Box::pin(async move {
        let secret = fetch_by(source, read, ONE_RUN, environment, limit).await?;
        tracing::debug!("{} from {source}", secret.kind());
        Ok(secret)
    })
}

async fn fetch_by(
    source: &TokenSource,
    read: &dyn Fn(&str) -> Result<Token>,
    one_run: Duration,
    environment: &Environment,
    limit: Limit,
) -> Result<Token> {
    let mut tries = Tries::new(limit, environment);
    loop {
        let fetched = source.fetch(one_run, environment, limit.deadline).await;
        let failure = match fetched.map(|text| read(&text)) {
            Ok(Ok(secret)) => return Ok(secret),
            Ok(Err(error)) => source.not_a_token(error),
            Err(failure) => failure,
        };
        let FetchError { error, may_recover } = failure;
        if !may_recover || limit.is_single() {
            return Err(error);
        }
        let cause = format!("{source}: {}", error.cause());
        if let Err(spent) = tries.pause(&cause, None).await {
            return Err(at_deadline(error, &spent, limit.wait));
        }
    }
}

/// Adds the tries and the deadline to the error of the last try.
fn at_deadline(error: Error, spent: &str, wait: Duration) -> Error {
    let wait = humantime::format_duration(wait);
    let cause = format!(
        "{} ({spent}; the deadline is {wait}, --wait)",
        error.cause()
    );
    let hint = format!(
        "{}; if the token comes later, allow more time: --wait DURATION",
        error.next_step()
    );
    error.with_cause(cause).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sourced::Source;

    #[tokio::test]
    async fn a_command_that_hangs_is_ended_and_run_again() {
        let folder = tempfile::tempdir().unwrap();
        let ran = folder.path().join("ran").display().to_string();
        // `exec` replaces the shell with the endless program.
        let command =
            format!("[ -e {ran} ] && echo enrl_late && exit; : >{ran}; exec tail -f /dev/null");
        let source = TokenSource::Command(command, Source::Flag("--token-command"));
        let environment = Environment::real([]).with_seed(1);
        let read = |text: &str| Token::parse(text, &source);
        let secret = fetch_by(
            &source,
            &read,
            Duration::from_millis(300),
            &environment,
            Limit::of(Duration::from_mins(5)),
        );
        assert_eq!(secret.await.unwrap().secret().expose_secret(), "enrl_late");
    }
}
