//! What the secret leaves on the host outside of the agent's own files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fetch;
use crate::cloud_init::{self, Unsearched};
use crate::enrolment::dialect::Dialect;
use crate::environment::Environment;
use crate::error::{Error, ErrorId};
use crate::hub::retry::Limit;
use crate::scrub::record::Record;
use crate::scrub::{self, Hashed, Left, Report, Wanted};
use crate::settings::Settings;
use crate::store::access::Grant;
use crate::token::{Secret, Token};
use crate::token_source::TokenSource;

/// The service waits for the step before it, and the service manager for both.
const PATIENCE_OF_STEP: Duration = Duration::from_secs(20);
/// What every enrolment token of a monsys hub begins with.
const TOKEN: &str = "enrl_";

/// What came of the traces.
#[derive(Clone, Debug, Default)]
pub struct Cleanup {
    /// Files that the secret was taken out of.
    pub scrubbed: Vec<PathBuf>,
    /// Files and folders that may still hold it.
    pub left: Vec<Left>,
    /// Places that were not searched, since they are not ours to edit.
    pub unsearched: Vec<Unsearched>,
}

impl Cleanup {
    /// What the run ends with, once all else is complete: where the secret may still be.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        left_behind(&self.left)
    }
}

/// Names what may still hold the secret.
fn left_behind(left: &[Left]) -> Option<Error> {
    let told: Vec<String> = left
        .iter()
        .map(|left| format!("{} ({})", left.path.display(), left.cause))
        .collect();
    (!told.is_empty()).then(|| Error::new(ErrorId::TokenLeftBehind, told.join(", ")))
}

/// The secret to be looked for once the hub has confirmed the host.
#[derive(Default)]
pub(super) struct SecretCleanup {
    is_wanted: bool,
    secret: Option<Secret>,
    /// The folder for the record of what the next start of the service is to look for, and its access.
    place: Option<(PathBuf, Grant)>,
}

impl SecretCleanup {
    /// Finds out whether traces are to be scrubbed: by this run's settings, or as an earlier run was told.
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

    /// Remembers the secret that this run has.
    pub(super) fn note(&mut self, secret: Option<&Token>) {
        if let Some(Token::Enrolment(secret)) = secret
            && self.is_wanted
        {
            self.secret = Some(secret.clone());
        }
    }

    /// Finds out the secret that this run was given and does not need, if that takes no work and
    /// its traces are to be scrubbed.
    pub(super) async fn look_for(
        &mut self,
        host: &dyn Dialect,
        environment: &Environment,
        limit: Limit,
    ) {
        let settings: &Settings = host.settings();
        // What a command prints was not in the user data.
        let is_command = matches!(settings.token, Some(TokenSource::Command(..)));
        if is_command || !self.is_wanted {
            return;
        }
        match fetch(host, environment, limit).await {
            Ok(secret) => self.note(secret.as_ref()),
            Err(error) => tracing::debug!("no token to scrub: {}", error.cause()),
        }
    }

    /// Scrubs them, and writes down what the next start of the service is to look for.
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
                } else if !record.wanted().finds(text) {
                    record.secrets.extend(Hashed::of(secret));
                }
                Wanted::secret(text)
            }
            None => {
                // Nothing else has a form of its own.
                record.tokens |= record.secrets.is_empty();
                record.wanted()
            }
        };
        if wanted.is_empty() {
            let left = self.secret.iter().map(|_| Left {
                path: environment.resolved_path("/var/lib/cloud"),
                cause: format!(
                    "the secret has less than {} bytes, and was not looked for: it would be found in what is none",
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
                "the {} is not searched for the token; to look there: {}",
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

/// Scrubs again, before the service starts: cloud-init may have written its copies anew. Returns what may
/// still hold a secret.
pub fn scrub_again(host: &dyn Dialect, environment: &Environment) -> Option<Error> {
    if host.settings().scrub_cloud_init == Some(false) {
        return None;
    }
    let folder = folder(host).filter(|folder| folder.is_dir())?;
    let record = Record::load(&folder)?;
    let wanted = record.wanted();
    if wanted.is_empty() {
        return None;
    }
    let mut places = cloud_init::places(environment, PATIENCE_OF_STEP);
    places.known.clone_from(&record.clean);
    let report = scrub::scrub(&wanted, &places);
    save(record, &report, &folder, host.access().secret());
    left_behind(&report.left)
}

/// The folder of the host's own state.
fn folder(host: &dyn Dialect) -> Option<PathBuf> {
    let mut folders = host.folders().into_iter();
    let folder = folders.find(|folder| !folder.is_foreign)?;
    Some(folder.path)
}

/// Cleaning up stops nothing: what cannot be written down is searched again.
fn save(mut record: Record, report: &Report, folder: &Path, grant: Grant) {
    record.clean.clone_from(&report.clean);
    if let Err(error) = record.save(folder, grant) {
        tracing::warn!("{}: {}", error.what(), error.cause());
    }
}
