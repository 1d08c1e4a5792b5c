//! What the secret leaves on the host outside of the agent's own files.

use std::path::PathBuf;
use std::time::Duration;

use super::fetch;
use crate::cloud_init::{self, Unsearched};
use crate::enrolment::dialect::Dialect;
use crate::environment::World;
use crate::error::{Error, ErrorId, Result};
use crate::hub::retry::Limit;
use crate::scrub::record::Record;
use crate::scrub::{self, Hashed, Left, Report, Wanted};
use crate::settings::Settings;
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
pub(super) struct Traces {
    is_wanted: bool,
    secret: Option<Secret>,
}

impl Traces {
    /// Finds out whether traces are to be scrubbed: by this run's settings, or as an earlier run was told.
    pub(super) fn of(host: &dyn Dialect, world: &World) -> Self {
        let is_wanted = host.settings().scrub_cloud_init.unwrap_or_else(|| {
            cloud_init::runs_us(world) || folder(host).is_some_and(|at| Record::load(&at).is_some())
        });
        Self {
            is_wanted,
            secret: None,
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
    pub(super) async fn look_for(&mut self, host: &dyn Dialect, world: &World, limit: Limit) {
        let settings: &Settings = host.settings();
        // What a command prints was not in the user data.
        let is_command = matches!(settings.token, Some(TokenSource::Command(..)));
        if is_command || !self.is_wanted {
            return;
        }
        match fetch(host, world, limit).await {
            Ok(secret) => self.note(secret.as_ref()),
            Err(error) => tracing::debug!("no token to scrub: {}", error.cause()),
        }
    }

    /// Scrubs them, and writes down what the next start of the service is to look for.
    pub(super) fn scrub<'a>(
        &self,
        read: impl Fn() -> Result<Box<dyn Dialect + 'a>>,
        world: &World,
    ) -> Cleanup {
        if !self.is_wanted {
            return Cleanup::default();
        }
        let host = read().ok();
        let folder = host.as_deref().and_then(folder);
        let mut record = folder.as_deref().and_then(Record::load).unwrap_or_default();
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
                path: world.resolved_path("/var/lib/cloud"),
                cause: format!(
                    "the secret has less than {} bytes, and was not looked for: it would be found in what is none",
                    scrub::SHORTEST
                ),
            });
            return Cleanup {
                left: left.collect(),
                unsearched: cloud_init::unsearched(world),
                ..Cleanup::default()
            };
        }
        let places = cloud_init::places(world, scrub::PATIENCE);
        let report = scrub::scrub(&wanted, &places);
        let unsearched = cloud_init::unsearched(world);
        for place in &unsearched {
            tracing::warn!(
                "the {} is not searched for the token; to look there: {}",
                place.place,
                place.look
            );
        }
        if let (Some(folder), Some(host)) = (&folder, &host) {
            save(record, &report, folder, &**host);
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
pub fn scrub_again(host: &dyn Dialect, world: &World) -> Option<Error> {
    if host.settings().scrub_cloud_init == Some(false) {
        return None;
    }
    let folder = folder(host)?;
    let record = Record::load(&folder)?;
    let wanted = record.wanted();
    if wanted.is_empty() {
        return None;
    }
    let mut places = cloud_init::places(world, PATIENCE_OF_STEP);
    places.known.clone_from(&record.clean);
    let report = scrub::scrub(&wanted, &places);
    save(record, &report, &folder, host);
    left_behind(&report.left)
}

/// The folder of the host's own state.
fn folder(host: &dyn Dialect) -> Option<PathBuf> {
    let mut folders = host.folders().into_iter();
    let folder = folders.find(|folder| !folder.is_foreign && folder.path.is_dir())?;
    Some(folder.path)
}

/// Cleaning up stops nothing: what cannot be written down is searched again.
fn save(mut record: Record, report: &Report, folder: &std::path::Path, host: &dyn Dialect) {
    record.clean.clone_from(&report.clean);
    if let Err(error) = record.save(folder, host.access().secret()) {
        tracing::warn!("{}: {}", error.what(), error.cause());
    }
}
