//! What the secret leaves on the host outside of the agent's own files.

use std::path::PathBuf;

use super::fetch;
use crate::cloud_init;
use crate::dialect::Dialect;
use crate::error::Result;
use crate::hub::retry::Limit;
use crate::scrub;
use crate::settings::Settings;
use crate::token::{Secret, Token};
use crate::token_source::TokenSource;
use crate::world::World;

/// The secret to be looked for once the hub has confirmed the host.
#[derive(Default)]
pub(super) struct Traces(Option<Secret>);

impl Traces {
    /// Remembers the secret that this run has, if its traces are to be scrubbed.
    pub(super) fn note(&mut self, settings: &Settings, secret: Option<&Token>, world: &World) {
        if let Some(Token::Enrolment(secret)) = secret
            && is_wanted(settings, world)
        {
            self.0 = Some(secret.clone());
        }
    }

    /// Finds out the secret that this run was given and does not need, if that takes no work and
    /// its traces are to be scrubbed.
    pub(super) async fn look_for(&mut self, host: &dyn Dialect, world: &World, limit: Limit) {
        let settings = host.settings();
        // What a command prints was not in the user data.
        let is_command = matches!(settings.token, Some(TokenSource::Command(..)));
        if is_command || !is_wanted(settings, world) {
            return;
        }
        match fetch(host, world, limit).await {
            Ok(secret) => self.note(settings, secret.as_ref(), world),
            Err(error) => tracing::debug!("no token to scrub: {}", error.why()),
        }
    }

    /// Scrubs them; returns the files that they were in.
    pub(super) fn scrub(&self, world: &World) -> Result<Vec<PathBuf>> {
        match &self.0 {
            Some(secret) => scrub::cloud_init(secret, world),
            None => Ok(Vec::new()),
        }
    }
}

fn is_wanted(settings: &Settings, world: &World) -> bool {
    settings
        .scrub_cloud_init
        .unwrap_or_else(|| cloud_init::runs_us(world))
}
