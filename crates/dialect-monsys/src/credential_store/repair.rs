//! The repair of a host's files after a killed run: no request is sent.

use uuid::Uuid;

use super::CredentialStore;
use crate::host_state::takes_over;
use crate::identity::{Identity, KEY_FILE};
use crate::state::State;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::settings::Settings;
use agent_core::store::atomic;

impl CredentialStore<'_> {
    /// Completes a change that a killed run began, if agent.toml names the confirmed agent already.
    /// Returns whether there was such a change.
    ///
    /// # Errors
    /// A next key that is missing, and files that cannot be written.
    pub(crate) fn roll_forward(&self, settings: &Settings) -> Result<bool> {
        let Some(state) = self.state() else {
            return Ok(false);
        };
        match &state.next {
            Some(next) if takes_over(&state, next, settings.file.agent_id()?, &self.machine) => {
                let Some(confirmed) = &next.confirmed else {
                    return Ok(false);
                };
                tracing::info!("completing what an interrupted run began");
                self.promote_next_key(&confirmed.public_key)?;
                self.paths.write_id(confirmed.agent_id, self.access)?;
                self.save_state(&State {
                    fingerprint: self.machine.clone(),
                    ..confirmed.state.clone()
                })?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Writes the missing files of an enrolled host, and removes a next key that is of no more use.
    /// Returns whether there was a change.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub(crate) fn repair(&self, agent_id: Uuid) -> Result<bool> {
        let mut is_changed = false;
        if self.paths.read_id() != Some(agent_id) {
            self.paths.write_id(agent_id, self.access)?;
            is_changed = true;
        }
        let before = self.state();
        let state = State {
            next: None,
            ..before.clone().unwrap_or_else(|| self.this_machine())
        };
        let is_complete = before.is_some_and(|before| before.next.is_none());
        let updated = self.updated(&state);
        if !is_complete || updated.is_some() {
            self.save_state(&updated.unwrap_or(state))?;
        }
        // An update of the fingerprint is not a change of the host's enrolment.
        is_changed |= !is_complete;
        self.paths.remove_next_keys()?;
        Ok(is_changed)
    }

    /// Renames the confirmed next key to the current key, unless that is done already.
    pub(super) fn promote_next_key(&self, public_key: &str) -> Result<()> {
        let state_dir = &self.paths.state_dir;
        let is_confirmed = |file: &str| -> Result<bool> {
            let key = Identity::load(state_dir, file)?;
            Ok(key.is_some_and(|key| key.public_key() == public_key))
        };
        if is_confirmed(KEY_FILE)? {
            return Ok(());
        }
        let next_key = self.state().and_then(|state| Some(state.next?.key_file));
        match next_key {
            Some(file) if is_confirmed(&file)? => {
                atomic::rename(&state_dir.join(file), &self.paths.key())
                    .map_err(|error| self.paths.state_error(&error))
            }
            _ => Err(Error::new(
                ErrorId::IdentityLost,
                "the hub has confirmed a new key of this host, and the file of that key is missing",
            )),
        }
    }

    /// Returns the state with the fingerprint of this machine as it is now. `None` when the state has that
    /// fingerprint, or belongs to another machine.
    pub(crate) fn with_machine_of_now(&self) -> Option<State> {
        self.updated(&self.state()?)
    }

    fn updated(&self, state: &State) -> Option<State> {
        let is_ours = if state.fingerprint.is_empty() {
            // With a next key, the state is of a host that had none before: see `EnrolmentState`.
            state.next.is_none()
        } else {
            state.fingerprint.is_same_machine(&self.machine)
        };
        let fingerprint = state.fingerprint.updated(&self.machine);
        let is_old = is_ours && fingerprint != state.fingerprint;
        is_old.then(|| State {
            fingerprint,
            ..state.clone()
        })
    }
}
