//! The secret cleanup: removes the secret from files outside of the agent's own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fetch;
use super::outcome::{Cleanup, left_behind};
use crate::cloud_init;
use crate::enrolment::dialect::Dialect;
use crate::environment::Environment;
use crate::error::Error;
use crate::hub::retry::Limit;
use crate::scrub::record::Record;
use crate::scrub::{self, Hashed, Remaining, Report, SecretMatcher};
use crate::settings::Settings;
use crate::store::access::Grant;
use crate::token::{Secret, Token};
use crate::token_source::TokenSource;

/// Time limit of the cleanup in the privileged step: the service waits for the step, and the service manager
/// for both.
const PATIENCE_OF_STEP: Duration = Duration::from_secs(20);
/// The prefix of every enrolment token of a monsys hub.
const TOKEN: &str = "enrl_";

/// The search for the secret, which runs when the hub has confirmed the host.
#[derive(Default)]
pub(super) struct SecretCleanup {
    is_wanted: bool,
    secret: Option<Secret>,
    /// The folder for the record of the next start's search, and the access to the record.
    place: Option<(PathBuf, Grant)>,
}

impl SecretCleanup {
    /// Decides whether to search: by the settings of this run, or by the record of an earlier run.
    pub(super) fn of(host: &dyn Dialect, environment: &Environment) -> Self {
        let is_wanted = host.settings().scrub_cloud_init.unwrap_or_else(|| {
            cloud_init::runs_us(environment)
                || folder(host).is_some_and(|at| at.is_dir() && Record::load(&at).is_some())
        });
        Self {
            is_wanted,
            secret: None,
            place: folder(host).map(|folder| (folder, host.access().secret())),
        }
    }

    /// Remembers the secret of this run for the search.
    pub(super) fn remember(&mut self, secret: Option<&Token>) {
        if let Some(Token::Enrolment(secret)) = secret
            && self.is_wanted
        {
            self.secret = Some(secret.clone());
        }
    }

    /// Fetches a secret that this run does not need yet, so that it can be scrubbed. Runs no command for it.
    pub(super) async fn find_secret(
        &mut self,
        host: &dyn Dialect,
        environment: &Environment,
        limit: Limit,
    ) -> Option<Token> {
        let settings: &Settings = host.settings();
        // The output of a command was never in the user data.
        let is_command = matches!(settings.token, Some(TokenSource::Command(..)));
        if is_command || !self.is_wanted {
            return None;
        }
        match fetch(host, environment, limit.once()).await {
            Ok(secret) => {
                self.remember(secret.as_ref());
                secret
            }
            Err(error) => {
                tracing::debug!("no token to scrub: {}", error.cause());
                None
            }
        }
    }

    /// Scrubs the secret from cloud-init's files, and writes the record for the next start of the service.
    pub(super) fn scrub(&self, environment: &Environment) -> Cleanup {
        if !self.is_wanted {
            return Cleanup::default();
        }
        let place = self.place.as_ref().filter(|(folder, _)| folder.is_dir());
        let record = place.and_then(|(folder, _)| Record::load(folder));
        let mut record = record.unwrap_or_default();
        let wanted = match &self.secret {
            Some(secret) => {
                let text = secret.expose_secret();
                if text.starts_with(TOKEN) {
                    record.tokens = true;
                } else if !record.matcher().finds(text) {
                    record.secrets.extend(Hashed::of(secret));
                }
                SecretMatcher::secret(text)
            }
            None => {
                // Only enrolment tokens can be found by their form.
                record.tokens |= record.secrets.is_empty();
                record.matcher()
            }
        };
        if wanted.is_empty() {
            let left = self.secret.iter().map(|_| Remaining {
                path: environment.resolved_path("/var/lib/cloud"),
                cause: format!(
                    "the secret has less than {} bytes, and was not searched for: the same bytes occur in other texts",
                    scrub::SHORTEST
                ),
            });
            return Cleanup {
                left: left.collect(),
                unsearched: cloud_init::unsearched(environment),
                ..Cleanup::default()
            };
        }
        let places = cloud_init::places(environment, scrub::PATIENCE);
        let report = scrub::scrub(&wanted, &places);
        let unsearched = cloud_init::unsearched(environment);
        for place in &unsearched {
            tracing::warn!(
                "the {} is not searched for the token; to search it: {}",
                place.place,
                place.look
            );
        }
        if let Some((folder, grant)) = place {
            save(record, &report, folder, *grant);
        }
        Cleanup {
            scrubbed: report.scrubbed,
            left: report.left,
            unsearched,
        }
    }
}

/// Scrubs again before the service starts, since cloud-init may have written its copies again. Returns the error
/// about files that may still hold a secret.
pub fn scrub_again(host: &dyn Dialect, environment: &Environment) -> Option<Error> {
    if host.settings().scrub_cloud_init == Some(false) {
        return None;
    }
    let folder = folder(host).filter(|folder| folder.is_dir())?;
    let record = Record::load(&folder)?;
    let wanted = record.matcher();
    if wanted.is_empty() {
        return None;
    }
    let mut places = cloud_init::places(environment, PATIENCE_OF_STEP);
    places.known.clone_from(&record.clean);
    let report = scrub::scrub(&wanted, &places);
    save(record, &report, &folder, host.access().secret());
    left_behind(&report.left)
}

/// Returns the folder of the host's own state.
fn folder(host: &dyn Dialect) -> Option<PathBuf> {
    let mut folders = host.folders().into_iter();
    let folder = folders.find(|folder| !folder.is_foreign)?;
    Some(folder.path)
}

/// Writes the record. A failure is only logged: the next start then searches all files again.
fn save(mut record: Record, report: &Report, folder: &Path, grant: Grant) {
    record.clean.clone_from(&report.clean);
    if let Err(error) = record.save(folder, grant) {
        tracing::warn!("{}: {}", error.what(), error.cause());
    }
}
