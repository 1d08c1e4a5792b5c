//! The only writer of this host's files, and the order of its writes.
//!
//! A crash between any two writes is repaired by the next run.
//!
//! - **A host with its own key**: state (which machine), key, *exchange*, state (requested and
//!   confirmed), receipt, agent-id, agent.toml. Neighbouring files of the state directory are synced by one
//!   fsync(2) of the directory.
//! - **A next key beside the current one** (a clone, or a lost key): state (name of the key file, and
//!   the machine that made the key), next key, *exchange*, receipt, state (what the hub confirmed for which
//!   public key), agent.toml, key, agent-id, state. agent.toml decides: until it names the confirmed agent, the
//!   next run sends the request again with the same key; from then on, [`CredentialStore::roll_forward`]
//!   writes the remaining files.
//! - **A rotation of the key** is a next key beside a current key that is still valid. When the run is
//!   interrupted before the hub's response is stored, it is open which of the two keys the hub has
//!   pinned: see `recovery.rs`.
//! - **A forced enrolment** makes the hub invalidate the credential on the disk: state (`renewing`),
//!   *exchange*, then as above; `renewing` is cleared last. While it is set, no run reports the host as
//!   enrolled already.
//!
//! The identity survives the loss of state.json: without it, a run sends a request or leaves the files
//! alone. Only the origin of the tags is lost: all tags then count as the host's own.

mod changes;
mod repair;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::connection_settings;
use crate::host_state::Snapshot;
use crate::hub_check::HubCheck;
use crate::identity::{Identity, KEY_FILE};
use crate::paths::{NewReceipt, Paths};
use crate::plan::{KeyPlace, PlannedRequest};
use crate::receipt::Receipt;
use crate::state::{ConfirmedNext, Next, State, TagsAndRole};
use crate::wire::Admission;
use agent_core::ca_copy;
use agent_core::clock;
use agent_core::enrolment::ChangedSetting;
use agent_core::environment::Environment;
use agent_core::error::{ErrorId, Result};
use agent_core::facts::fingerprint::Fingerprint;
use agent_core::settings::Settings;
use agent_core::store::access::Access;
use agent_core::store::agent_toml::Entry;
use agent_core::store::unwritable;
use agent_core::tags;
use agent_core::token::Secret;

/// The writer of this host's files, under the lock.
pub(crate) struct CredentialStore<'a> {
    pub(crate) paths: &'a Paths,
    environment: &'a Environment,
    access: Access,
    machine: Fingerprint,
    /// The current key when the host was inspected.
    key: Option<Rc<Identity>>,
    /// The content of state.json, which no other process changes under the lock.
    state: RefCell<Option<State>>,
}

/// The result of a write of an accepted request.
pub(crate) struct Saved {
    /// The merged tags and role.
    pub(crate) labels: TagsAndRole,
    /// A file that the service reads, or the host's own state, was changed.
    pub(crate) is_changed: bool,
    /// The settings of an enrolled host that were changed.
    pub(crate) changes: Vec<ChangedSetting>,
}

/// An accepted request: the hub's response, and what this host sent.
pub(crate) struct Confirmed<'a> {
    pub(crate) admission: Admission,
    pub(crate) secret: &'a Secret,
    pub(crate) own: TagsAndRole,
    pub(crate) key: KeyPlace,
    pub(crate) hostname: &'a str,
    pub(crate) public_key: String,
}

impl<'a> CredentialStore<'a> {
    /// Returns a writer that continues from `snapshot`, which was read under the lock.
    pub(crate) fn new(paths: &'a Paths, environment: &'a Environment, snapshot: &Snapshot) -> Self {
        Self {
            paths,
            environment,
            access: environment.access(),
            machine: snapshot.machine.clone(),
            key: snapshot.key.clone(),
            state: RefCell::new(snapshot.state.clone()),
        }
    }

    /// Returns the host's time of day.
    pub(crate) fn now(&self) -> SystemTime {
        self.environment.now()
    }

    /// Returns the hash of the machine-id, which the hub gets.
    pub(crate) fn machine_id(&self) -> Option<&str> {
        self.machine.machine_id.as_deref()
    }

    fn state(&self) -> Option<State> {
        self.state.borrow().clone()
    }

    /// Returns the key that signs `planned`, and makes it durable on the disk if it is new.
    ///
    /// state.json names the machine of a new key before the key is in its place. So a copy of the disk
    /// that is made from then on is recognised as a clone.
    ///
    /// # Errors
    /// A broken key file, and files that cannot be written.
    pub(crate) fn identity(&self, planned: &PlannedRequest) -> Result<Rc<Identity>> {
        let state_dir = &self.paths.state_dir;
        let (state, key_file) = match planned.key {
            KeyPlace::Next => {
                let state = self.state().unwrap_or_default();
                let known = state
                    .next
                    .as_ref()
                    .filter(|next| next.machine.is_same_machine(&self.machine));
                match known {
                    Some(next) => (None, next.key_file.clone()),
                    None => {
                        let key_file = self.paths.next_key_file(&self.machine);
                        let state = State {
                            next: Some(Box::new(Next {
                                key_file: key_file.clone(),
                                machine: self.machine.clone(),
                                confirmed: None,
                            })),
                            ..state
                        };
                        (Some(state), key_file)
                    }
                }
            }
            KeyPlace::Current => {
                let is_known = self.key.is_some() && self.state.borrow().is_some();
                let state = (!is_known).then(|| self.this_machine());
                (state, KEY_FILE.to_owned())
            }
        };
        let existing = match planned.key {
            KeyPlace::Current => self.key.clone(),
            KeyPlace::Next => Identity::load(state_dir, &key_file)?.map(Rc::new),
        };
        if let Some(identity) = existing {
            if let Some(state) = &state {
                self.save_state(state)?;
            }
            return Ok(identity);
        }
        let made = Identity::create_after(state.as_ref(), state_dir, &key_file, self.access)?;
        if state.is_some() {
            self.state.replace(state);
        }
        Ok(Rc::new(made))
    }

    /// Stores whether a forced enrolment may have invalidated the credential on the disk. Returns whether
    /// that is a change.
    pub(crate) fn set_renewing(&self, renewing: bool) -> Result<bool> {
        let state = self.state().unwrap_or_else(|| self.this_machine());
        let is_new = state.renewing != renewing;
        if is_new {
            self.save_state(&State { renewing, ..state })?;
        }
        Ok(is_new)
    }

    /// Stores whether the hub may have removed this host. Returns whether that is a change.
    pub(crate) fn set_unenrolling(&self, unenrolling: bool) -> Result<bool> {
        let state = self.state().unwrap_or_else(|| self.this_machine());
        let is_new = state.unenrolling != unenrolling;
        if is_new {
            self.save_state(&State {
                unenrolling,
                ..state
            })?;
        }
        Ok(is_new)
    }

    /// Stores that the hub is asked now, before the request is sent.
    pub(crate) fn record_hub_check(&self, interval: Duration) -> Result<()> {
        let hub_check = Some(HubCheck::now(interval, self.environment));
        let state = self.state().unwrap_or_else(|| self.this_machine());
        self.save_state(&State { hub_check, ..state })
    }

    /// Removes the next key, which the hub has not pinned. The current key stays.
    pub(crate) fn drop_next_key(&self) -> Result<()> {
        if let Some(state) = self.state()
            && state.next.is_some()
        {
            self.save_state(&State {
                next: None,
                ..state
            })?;
        }
        self.paths.remove_next_keys()
    }

    /// Writes the files of an accepted request, as far as they change.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub(crate) fn save(&self, settings: &Settings, confirmed: Confirmed<'_>) -> Result<Saved> {
        let Confirmed {
            mut admission,
            secret,
            own,
            key,
            hostname,
            public_key,
        } = confirmed;
        let merged = TagsAndRole {
            tags: tags::merge(&admission.default_tags, &own.tags),
            role: tags::merge_role(admission.default_role.as_deref(), own.role.as_deref()),
        };
        // An operator may have edited the file during the exchange.
        let file = settings.file.current()?;
        let role = merged.role.clone();
        let mut entries = vec![
            ("hub_url", Entry::Text(settings.hub_url.value.to_string())),
            ("agent_id", Entry::Text(admission.agent_id.to_string())),
            ("agent_token", Entry::Secret(secret)),
            ("tags", Entry::List(&merged.tags)),
            ("role", role.map_or(Entry::Nothing, Entry::Text)),
        ];
        let is_new_ca = ca_copy::make(settings, self.paths.config_dir(), self.environment)?;
        entries.extend(connection_settings::entries(settings, self.environment));
        let text = file.with(&entries)?;
        let agent_id = admission.agent_id;
        let before = self.state();
        let receipt = self.new_receipt(admission.receipt.take(), agent_id);
        let state = self.state_after(settings, admission, own, hostname, before.as_ref());
        let was_renewing = before.as_ref().is_some_and(State::may_be_dead);
        let changes = changes::between(&file, &merged, &entries, is_new_ca);
        if key == KeyPlace::Current
            && !is_new_ca
            && file.is(&text)
            && self.keep(before.as_ref(), &state, &receipt)
        {
            return Ok(Saved {
                labels: merged,
                is_changed: false,
                changes,
            });
        }
        match key {
            KeyPlace::Current => {
                let confirmed = State {
                    renewing: was_renewing,
                    ..state.clone()
                };
                self.paths
                    .write_state_and_id(&confirmed, &receipt, agent_id, self.access)?;
                self.state.replace(Some(confirmed));
            }
            KeyPlace::Next => {
                // First: the next run rolls the key forward without a request, which would give another receipt.
                self.paths.write_receipt(&receipt, self.access)?;
                let before = before.unwrap_or_default();
                let key_file = before.next.as_ref().map_or_else(
                    || self.paths.next_key_file(&self.machine),
                    |next| next.key_file.clone(),
                );
                self.save_state(&State {
                    next: Some(Box::new(Next {
                        key_file,
                        machine: self.machine.clone(),
                        confirmed: Some(ConfirmedNext {
                            agent_id,
                            public_key: public_key.clone(),
                            state: state.clone(),
                        }),
                    })),
                    ..before
                })?;
            }
        }
        file.replace(&text, self.access)
            .map_err(|error| self.paths.config_error(&error))?;
        tracing::debug!("wrote {}", self.paths.config.display());
        if key == KeyPlace::Next {
            self.promote_next_key(&public_key)?;
            self.paths.write_id(agent_id, self.access)?;
        }
        if key == KeyPlace::Next || was_renewing {
            self.save_state(&state)?;
        }
        self.paths.remove_next_keys()?;
        Ok(Saved {
            labels: merged,
            is_changed: true,
            changes,
        })
    }

    /// Returns whether the state says what it said `before`, and then writes only what is not a change of the
    /// enrolment: the ids of the machine, and the receipt. A confirmation needs no disk that can be written.
    fn keep(&self, before: Option<&State>, state: &State, receipt: &NewReceipt) -> bool {
        let Some(before) = before else { return false };
        let fingerprint = before.fingerprint.clone();
        let renamed = State {
            fingerprint,
            ..state.clone()
        };
        if renamed != *before {
            return false;
        }
        let mut written = Ok(());
        if before.fingerprint != state.fingerprint {
            written = self.save_state(state);
        }
        if let Err(error) = written.and_then(|()| self.paths.write_receipt(receipt, self.access)) {
            tracing::warn!("{}: {}", error.what(), error.cause());
        }
        true
    }

    /// Decides about the receipt on the disk after an admission as `agent_id`.
    fn new_receipt(&self, answered: Option<Receipt>, agent_id: Uuid) -> NewReceipt {
        let before = Receipt::load(&self.paths.state_dir);
        match answered {
            Some(receipt) if receipt.replaces(before.as_ref(), self.now()) => {
                NewReceipt::Write(receipt)
            }
            // A receipt of another agent, or of another hub, is of no use any more.
            None if before.is_some_and(|before| before.agent_id() != Some(agent_id)) => {
                NewReceipt::Remove
            }
            _ => NewReceipt::Keep,
        }
    }

    fn this_machine(&self) -> State {
        State {
            fingerprint: self.machine.clone(),
            ..State::default()
        }
    }

    fn state_after(
        &self,
        settings: &Settings,
        admission: Admission,
        own: TagsAndRole,
        hostname: &str,
        before: Option<&State>,
    ) -> State {
        let now = || clock::rfc3339(self.environment.now());
        // The time of the first enrolment stays as long as the agent is the same.
        let same = before.filter(|_| self.paths.read_id() == Some(admission.agent_id));
        // A user who cannot read all ids of the machine keeps those that root has stored.
        let known = before
            .map(|state| &state.fingerprint)
            .filter(|stored| stored.is_same_machine(&self.machine));
        State {
            fingerprint: known.map_or_else(
                || self.machine.clone(),
                |stored| stored.updated(&self.machine),
            ),
            hub: Some(settings.hub_url.value.origin()),
            hostname: Some(hostname.to_owned()),
            enrolled_at: same
                .and_then(|state| state.enrolled_at.clone())
                .or_else(|| Some(now())),
            requested: own,
            defaults: TagsAndRole {
                tags: admission.default_tags,
                role: admission.default_role,
            },
            heartbeat_interval_secs: Some(admission.heartbeat_interval_secs),
            renewing: false,
            unenrolling: false,
            hub_dropped: false,
            next: None,
            step: before.and_then(|state| state.step.clone()),
            hub_check: before.and_then(|state| state.hub_check.clone()),
        }
    }

    /// Writes state.json.
    ///
    /// # Errors
    /// [`ErrorId::StateUnwritable`].
    pub(crate) fn save_state(&self, state: &State) -> Result<()> {
        state
            .save(&self.paths.state_dir, self.access)
            .map_err(|error| unwritable(ErrorId::StateUnwritable, &self.paths.state_dir, &error))?;
        self.state.replace(Some(state.clone()));
        Ok(())
    }
}
