//! What an enrolment leaves on the disk, and in which order, so that a crash between any two
//! steps is fixed by the next run.
//!
//! - A host with its own key: state (which machine), key, *exchange*, state (what was asked for and
//!   confirmed), agent-id, agent.toml. What stands side by side in the state directory is synced by
//!   one fsync of the directory.
//! - A new key beside an old one (a clone, or a lost key): state (which file, made on which machine),
//!   next key, *exchange*, state (what the hub confirmed for which public key), agent.toml, key,
//!   agent-id, state. agent.toml decides: while it does not name the confirmed agent, the hub is
//!   asked again with the same key; once it does, the rest is written by [`CredentialStore::roll_forward`].
//! - A rotation of the key is a new key beside an old one that is still good. Interrupted before the
//!   hub's yes is written down, it leaves a doubt which of the two the hub has: see `settling.rs`.
//! - A forced enrolment kills the credential on the disk: state (renewing), *exchange*, and on as
//!   above; the mark goes last. While it stands, the host is not told to be enrolled already.
//!
//! The state can be lost without harm to the identity: without it, a run asks the hub, or leaves
//! things alone. What is lost with it is who asked for which tag: all then count as the host's own.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use uuid::Uuid;

use crate::host_state::{Snapshot, takes_over};
use crate::identity::{Identity, KEY_FILE};
use crate::paths::Paths;
use crate::plan::{Ask, KeyPlace};
use crate::state::{Asked, ConfirmedNext, Next, State};
use crate::wire::Admission;
use agent_core::ca_copy;
use agent_core::clock;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::fingerprint::Fingerprint;
use agent_core::settings::Settings;
use agent_core::store::access::Access;
use agent_core::store::agent_toml::Entry;
use agent_core::store::atomic;
use agent_core::store::unwritable;
use agent_core::tags;
use agent_core::token::Secret;

/// Writes this host's files, under the lock.
pub(crate) struct CredentialStore<'a> {
    pub(crate) paths: &'a Paths,
    environment: &'a Environment,
    access: Access,
    machine: Fingerprint,
    /// The key that was in its place when the host was inspected.
    key: Option<Rc<Identity>>,
    /// state.json as it is: the lock keeps others from writing it.
    state: RefCell<Option<State>>,
}

/// What the hub has confirmed.
pub(crate) struct Confirmed<'a> {
    pub(crate) admission: Admission,
    pub(crate) secret: &'a Secret,
    pub(crate) own: Asked,
    pub(crate) key: KeyPlace,
    pub(crate) hostname: &'a str,
    pub(crate) public_key: String,
}

impl<'a> CredentialStore<'a> {
    /// Goes on from what was read under the lock.
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

    /// The hash of the machine-id, which the hub is told.
    pub(crate) fn machine_id(&self) -> Option<&str> {
        self.machine.machine_id.as_deref()
    }

    fn state(&self) -> Option<State> {
        self.state.borrow().clone()
    }

    /// The key that signs `ask`, on the disk and synced. Before a new key is in its place, the
    /// state says whose it is, so that a copy of the disk made from there on is known as a clone.
    pub(crate) fn identity(&self, ask: &Ask) -> Result<Rc<Identity>> {
        let state_dir = &self.paths.state_dir;
        let (state, key_file) = match ask.key {
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
        let there = match ask.key {
            KeyPlace::Current => self.key.clone(),
            KeyPlace::Next => Identity::load(state_dir, &key_file)?.map(Rc::new),
        };
        if let Some(identity) = there {
            if let Some(state) = &state {
                self.save_state(state)?;
            }
            return Ok(identity);
        }
        let made = Identity::create_behind(state.as_ref(), state_dir, &key_file, self.access)?;
        if state.is_some() {
            self.state.replace(state);
        }
        Ok(Rc::new(made))
    }

    /// Marks, or unmarks, that the credential on the disk may be dead. Tells whether that is new.
    pub(crate) fn mark_renewing(&self, renewing: bool) -> Result<bool> {
        let state = self.state().unwrap_or_else(|| self.this_machine());
        let is_new = state.renewing != renewing;
        if is_new {
            self.save_state(&State { renewing, ..state })?;
        }
        Ok(is_new)
    }

    /// Marks, or unmarks, that the hub may have forgotten this host. Tells whether that is new.
    pub(crate) fn mark_leaving(&self, leaving: bool) -> Result<bool> {
        let state = self.state().unwrap_or_else(|| self.this_machine());
        let is_new = state.leaving != leaving;
        if is_new {
            self.save_state(&State { leaving, ..state })?;
        }
        Ok(is_new)
    }

    /// Gives up a new key that the hub does not have; the one in its place stays.
    pub(crate) fn drop_next(&self) -> Result<()> {
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

    /// Writes what the hub has confirmed; returns the merged tags and role.
    pub(crate) fn save(&self, settings: &Settings, confirmed: Confirmed<'_>) -> Result<Asked> {
        let Confirmed {
            admission,
            secret,
            own,
            key,
            hostname,
            public_key,
        } = confirmed;
        let merged = Asked {
            tags: tags::merge(&admission.default_tags, &own.tags),
            role: tags::merge_role(admission.default_role.as_deref(), own.role.as_deref()),
        };
        // Somebody may have edited it while the hub was asked.
        let file = settings.file.current()?;
        let role = merged.role.clone();
        let mut entries = vec![
            ("hub_url", Entry::Text(settings.hub_url.value.to_string())),
            ("agent_id", Entry::Text(admission.agent_id.to_string())),
            ("agent_token", Entry::Secret(secret)),
            ("tags", Entry::List(&merged.tags)),
            ("role", role.map_or(Entry::Nothing, Entry::Text)),
        ];
        ca_copy::make(settings, self.paths.config_dir(), self.environment)?;
        entries.extend(connection(settings, self.environment));
        let text = file.with(&entries)?;
        let agent_id = admission.agent_id;
        let before = self.state();
        let state = self.state_after(admission, own, hostname, before.as_ref());
        let was_renewing = before.as_ref().is_some_and(State::may_be_dead);
        match key {
            KeyPlace::Current => {
                let confirmed = State {
                    renewing: was_renewing,
                    ..state.clone()
                };
                self.paths
                    .write_state_and_id(&confirmed, agent_id, self.access)?;
                self.state.replace(Some(confirmed));
            }
            KeyPlace::Next => {
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
            .map_err(|error| self.paths.config_fault(&error))?;
        tracing::debug!("wrote {}", self.paths.config.display());
        if key == KeyPlace::Next {
            self.take_next_key(&public_key)?;
            self.paths.write_id(agent_id, self.access)?;
        }
        if key == KeyPlace::Next || was_renewing {
            self.save_state(&state)?;
        }
        self.paths.remove_next_keys()?;
        Ok(merged)
    }

    /// Ends what a killed run began, if agent.toml says that it was as good as done.
    /// Tells whether there was something to end.
    pub(crate) fn roll_forward(&self, settings: &Settings) -> Result<bool> {
        let Some(state) = self.state() else {
            return Ok(false);
        };
        match &state.next {
            Some(next) if takes_over(&state, next, settings.file.agent_id()?, &self.machine) => {
                let Some(confirmed) = &next.confirmed else {
                    return Ok(false);
                };
                tracing::info!("ending what an interrupted run began");
                self.take_next_key(&confirmed.public_key)?;
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

    /// Writes anew what an interrupted run did not come to, or somebody lost, and removes a key that
    /// waits for nothing any more. Tells whether there was something to do.
    pub(crate) fn repair(&self, agent_id: Uuid) -> Result<bool> {
        let mut is_changed = false;
        if self.paths.read_id() != Some(agent_id) {
            self.paths.write_id(agent_id, self.access)?;
            is_changed = true;
        }
        match self.state() {
            Some(state) if state.next.is_none() => {}
            state => {
                let state = state.unwrap_or_else(|| self.this_machine());
                self.save_state(&State {
                    next: None,
                    ..state
                })?;
                is_changed = true;
            }
        }
        self.paths.remove_next_keys()?;
        Ok(is_changed)
    }

    /// Puts the confirmed key into its place, unless it is there already.
    fn take_next_key(&self, public_key: &str) -> Result<()> {
        let state_dir = &self.paths.state_dir;
        let is_it = |file: &str| -> Result<bool> {
            let key = Identity::load(state_dir, file)?;
            Ok(key.is_some_and(|key| key.public_key() == public_key))
        };
        if is_it(KEY_FILE)? {
            return Ok(());
        }
        let waiting = self.state().and_then(|state| Some(state.next?.key_file));
        match waiting {
            Some(file) if is_it(&file)? => atomic::rename(&state_dir.join(file), &self.paths.key())
                .map_err(|error| self.paths.state_fault(&error)),
            _ => Err(Error::new(
                ErrorId::IdentityLost,
                "the hub has confirmed a new key of this host, and that key is not there any more",
            )),
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
        admission: Admission,
        own: Asked,
        hostname: &str,
        before: Option<&State>,
    ) -> State {
        let now = || clock::rfc3339(self.environment.now());
        // The same agent keeps its history.
        let same = before.filter(|_| self.paths.read_id() == Some(admission.agent_id));
        State {
            fingerprint: self.machine.clone(),
            hostname: Some(hostname.to_owned()),
            enrolled_at: same
                .and_then(|state| state.enrolled_at.clone())
                .or_else(|| Some(now())),
            asked: own,
            defaults: Asked {
                tags: admission.default_tags,
                role: admission.default_role,
            },
            heartbeat_interval_secs: Some(admission.heartbeat_interval_secs),
            renewing: false,
            leaving: false,
            hub_dropped: false,
            next: None,
            step: before.and_then(|state| state.step.clone()),
        }
    }

    /// The state with what is known of this machine now and was not when the state was written; none
    /// when it lacks nothing.
    pub(crate) fn filled_in(&self) -> Option<State> {
        let state = self.state()?;
        let filled = state.fingerprint.filled_in(&self.machine);
        let is_ours =
            !state.fingerprint.is_empty() && state.fingerprint.is_same_machine(&self.machine);
        let lacks = is_ours && filled != state.fingerprint;
        lacks.then_some(State {
            fingerprint: filled,
            ..state
        })
    }

    pub(crate) fn save_state(&self, state: &State) -> Result<()> {
        state
            .save(&self.paths.state_dir, self.access)
            .map_err(|error| unwritable(ErrorId::StateUnwritable, &self.paths.state_dir, &error))?;
        self.state.replace(Some(state.clone()));
        Ok(())
    }
}

/// Whether this run is given a setting for the way to the hub that agent.toml lacks: then the service
/// would not find the way. What was dropped when a tree was taken over comes back so.
pub(crate) fn lacks_connection(settings: &Settings, environment: &Environment) -> bool {
    let file = settings.file.settings();
    connection(settings, environment)
        .iter()
        .any(|(key, _)| match *key {
            "ca_file" => file.ca_file.is_none(),
            "ca_pin" => file.ca_pin.is_none(),
            "https_proxy" => file.https_proxy.is_none(),
            "no_proxy" => file.no_proxy.is_none(),
            "allow_http" => file.allow_http.is_none(),
            _ => file.state_dir.is_none(),
        })
}

/// Settings that this run was given, and without which the service would not reach the hub.
pub(crate) fn connection(
    settings: &Settings,
    environment: &Environment,
) -> Vec<(&'static str, Entry<'static>)> {
    let mut kept = Vec::new();
    if let Some(ca_file) = &settings.ca_file
        && ca_file.source.is_explicit()
        && ca_file.can_be_named()
    {
        let config = environment.path(&settings.config_path);
        let folder = config.parent().unwrap_or(Path::new("/"));
        let copy = ca_copy::place(settings, folder, environment);
        match environment.path_on_host(copy.as_deref().unwrap_or(&ca_file.value)) {
            Some(path) => {
                let path = path.to_string_lossy().into_owned();
                kept.push(("ca_file", Entry::Text(path)));
            }
            None => tracing::warn!(
                "{} is outside of --root, so agent.toml does not name it: put the CA into the host's tree and set `ca_file` there",
                ca_file.value.display()
            ),
        }
    }
    if let Some(pin) = &settings.ca_pin
        && pin.source.is_explicit()
    {
        kept.push(("ca_pin", Entry::Text(pin.value.to_string())));
    }
    if let Some(proxy) = &settings.proxy
        && proxy.source.is_explicit()
    {
        // It may hold a password, which is why the file is for its owner alone.
        kept.push(("https_proxy", Entry::Text(proxy.value.url.to_string())));
        if let Some(bypass) = &proxy.value.bypass {
            kept.push(("no_proxy", Entry::Text(bypass.clone())));
        }
    }
    if settings.allow_http.value && settings.allow_http.source.is_explicit() {
        kept.push(("allow_http", Entry::Flag(true)));
    }
    if settings.state_dir.source.is_explicit() {
        let path = settings.state_dir.value.to_string_lossy().into_owned();
        kept.push(("state_dir", Entry::Text(path)));
    }
    kept
}
