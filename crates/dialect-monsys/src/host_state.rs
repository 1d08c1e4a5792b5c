//! The state of this host, read once: new, enrolled, half-way, or a copy of another host.

use std::rc::Rc;

use uuid::Uuid;

use crate::identity::{Identity, KEY_FILE};
use crate::paths::Paths;
use crate::state::{Asked, Next, State};
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::fingerprint::Fingerprint;
use agent_core::settings::Settings;
use agent_core::sourced::Source;
use agent_core::tags;
use agent_core::token::Secret;
use agent_core::token_source::TokenSource;

/// Where this host stands. What the agent remembers comes along, if it does.
#[derive(Debug)]
pub(crate) enum EnrolmentState {
    /// Not enrolled.
    New(Option<Box<State>>),
    /// A per-agent token is in agent.toml, and no hub has confirmed it yet.
    Unconfirmed(Secret, Option<Box<State>>),
    /// Enrolled.
    Enrolled(Box<Enrolled>),
    /// What is on this disk belongs to another machine.
    Clone(Option<Box<State>>),
}

/// An enrolled host.
#[derive(Debug)]
pub(crate) struct Enrolled {
    /// The agent's id.
    pub agent_id: Uuid,
    /// Its credential.
    pub agent_token: Secret,
    /// Its hub.
    pub hub_url: String,
    /// Its tags, merged.
    pub tags: Vec<String>,
    /// Its role, merged.
    pub role: Option<String>,
    /// What the agent remembers, if it does.
    pub state: Option<State>,
    /// The signing key is not there any more.
    pub key_is_lost: bool,
    /// agent.toml says which hub issued the credential.
    pub names_hub: bool,
    /// A new key waits, and an interrupted rotation left open whether the hub has it.
    pub is_in_doubt: bool,
}

/// What is on the host's disk beside agent.toml, and which machine the host is, as they were read.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// What the agent remembers.
    pub(crate) state: Option<State>,
    /// The signing key in its place.
    pub(crate) key: Option<Rc<Identity>>,
    /// This machine.
    pub(crate) machine: Fingerprint,
}

impl Snapshot {
    /// Reads the key, the state and the fingerprint of the machine.
    ///
    /// # Errors
    /// A broken key or state.
    pub(crate) fn read(paths: &Paths, environment: &Environment) -> Result<Self> {
        Ok(Self {
            key: Identity::load(&paths.state_dir, KEY_FILE)?.map(Rc::new),
            state: State::load(&paths.state_dir)?,
            machine: Fingerprint::of(environment)?,
        })
    }
}

/// The state of this host, and what it was decided on.
#[derive(Debug)]
pub(crate) struct HostState {
    /// New, enrolled, half-way, or a copy.
    pub(crate) enrolment_state: EnrolmentState,
    /// What was read.
    pub(crate) snapshot: Snapshot,
}

impl HostState {
    /// Reads the host's files, and decides on its state. agent.toml was read with the settings.
    ///
    /// # Errors
    /// A broken agent.toml, key or state.
    pub(crate) fn inspect(
        settings: &Settings,
        paths: &Paths,
        environment: &Environment,
    ) -> Result<Self> {
        settings.file.agent_token()?;
        settings.file.agent_id()?;
        let snapshot = Snapshot::read(paths, environment)?;
        Ok(Self {
            enrolment_state: EnrolmentState::of(settings, paths, &snapshot)?,
            snapshot,
        })
    }
}

impl EnrolmentState {
    fn of(settings: &Settings, paths: &Paths, snapshot: &Snapshot) -> Result<Self> {
        let file = &settings.file;
        let token = file.agent_token()?;
        let id = file.agent_id()?;
        let Snapshot {
            state,
            key,
            machine,
        } = snapshot.clone();
        let next = state.as_ref().and_then(|state| state.next.as_deref());
        let is_taken_over = match (&state, next) {
            (Some(state), Some(next)) => takes_over(state, next, id, &machine),
            _ => false,
        };
        let is_foreign = match &state {
            _ if is_taken_over => false,
            // Before a new key was made here, nothing was remembered.
            Some(state) if state.fingerprint.is_empty() => next.is_some(),
            Some(state) => !state.fingerprint.is_same_machine(&machine),
            None => paths.next_key(&machine).exists(),
        };
        if is_foreign && (token.is_some() || key.is_some()) {
            return Ok(Self::Clone(state.map(Box::new)));
        }
        let key_is_lost = match next.and_then(|next| Some((next, next.confirmed.as_ref()?))) {
            Some((next, confirmed)) if is_taken_over => {
                let waiting = Identity::load(&paths.state_dir, &next.key_file)?;
                let is_confirmed = |key: &Identity| key.public_key() == confirmed.public_key;
                !waiting.iter().chain(key.as_deref()).any(is_confirmed)
            }
            _ => key.is_none(),
        };
        // One that another machine made waits for nothing here.
        let is_in_doubt = !is_taken_over
            && next.is_some_and(|next| {
                next.confirmed.is_none()
                    && next.machine.is_same_machine(&machine)
                    && paths.state_dir.join(&next.key_file).exists()
            });
        Ok(match (token, id) {
            (Some(agent_token), Some(agent_id)) => Self::Enrolled(Box::new(Enrolled {
                agent_id,
                agent_token,
                hub_url: issuer(settings)?,
                names_hub: file.settings().hub_url.is_some(),
                tags: file.settings().tags.clone().unwrap_or_default(),
                role: file.settings().role.clone().filter(|role| !role.is_empty()),
                state,
                key_is_lost,
                is_in_doubt,
            })),
            (Some(agent_token), None) => Self::Unconfirmed(agent_token, state.map(Box::new)),
            (None, _) => Self::New(state.map(Box::new)),
        })
    }

    /// Whether a run takes the token that it was given, so that it has to be fetched.
    #[must_use]
    pub(crate) fn takes_token(&self, settings: &Settings, force: bool) -> bool {
        match self {
            // The credential is what the host has left of its identity: only a token that was given
            // for this very run may replace it.
            Self::Enrolled(enrolled) if enrolled.key_is_lost => {
                force
                    && settings
                        .token
                        .as_ref()
                        .is_some_and(TokenSource::is_explicit)
            }
            Self::Enrolled(enrolled) => force || enrolled.is_renewing(),
            _ => true,
        }
    }
}

/// The hub that issued the credential in agent.toml: a credential goes to no other one, and least of
/// all to a default that nobody named.
fn issuer(settings: &Settings) -> Result<String> {
    let written = settings.file.settings().hub_url.as_deref().map(str::trim);
    match written.filter(|url| !url.is_empty()) {
        Some(url) => Ok(url.trim_end_matches('/').to_owned()),
        None if settings.hub_url.source.is_explicit() => Ok(settings.hub_url.value.to_string()),
        None => Err(Error::new(
            ErrorId::ConfigBroken,
            "it holds a credential, and does not say which hub issued it",
        )
        .about(settings.file.path().display())
        .hint("monsys-agent enrol --hub-url URL, which confirms the credential there and writes the URL down")),
    }
}

/// Whether agent.toml names the agent that the hub has confirmed for the key that waits. Then only
/// the rest of the files is missing.
pub(crate) fn takes_over(
    state: &State,
    next: &Next,
    written: Option<Uuid>,
    machine: &Fingerprint,
) -> bool {
    let is_here = next.machine.is_same_machine(machine)
        || (!state.fingerprint.is_empty() && state.fingerprint.is_same_machine(machine));
    let confirmed = next.confirmed.as_ref();
    is_here && confirmed.is_some_and(|confirmed| written == Some(confirmed.agent_id))
}

impl Enrolled {
    /// A forced enrolment, or leaving, has begun and not ended.
    #[must_use]
    pub(crate) fn is_renewing(&self) -> bool {
        self.state.as_ref().is_some_and(State::may_be_dead)
    }

    /// Whether the host has what `asked` says, so that nothing needs to be sent.
    pub(crate) fn has(&self, asked: &Asked) -> bool {
        self.names_hub && self.has_asked(asked)
    }

    fn has_asked(&self, asked: &Asked) -> bool {
        match &self.state {
            Some(state) if state.enrolled_at.is_some() => {
                let expected = tags::merge(&state.defaults.tags, &asked.tags);
                let role = tags::merge_role(state.defaults.role.as_deref(), asked.role.as_deref());
                let same_tags = asked.tags.len() == state.asked.tags.len()
                    && asked.tags.iter().all(|tag| state.asked.tags.contains(tag));
                same_tags
                    && asked.role == state.asked.role
                    && expected == self.tags
                    && role == self.role
            }
            // Without the state, who asked for which tag is not known any more.
            _ => {
                asked.tags.iter().all(|tag| self.tags.contains(tag))
                    && asked
                        .role
                        .as_ref()
                        .is_none_or(|role| Some(role) == self.role.as_ref())
            }
        }
    }
}

/// The host's own part of its tags and role: what this run or the user's edit of agent.toml says,
/// without what only the token's defaults brought there.
pub(crate) fn own(settings: &Settings, state: Option<&State>) -> Asked {
    let (defaults, asked) = match state {
        Some(state) => (&state.defaults, &state.asked),
        None => (&Asked::default(), &Asked::default()),
    };
    let from_file = |source: &Source| matches!(source, Source::Key(..));
    let given = &settings.tags;
    let tags = if from_file(&given.source) {
        let is_own = |tag: &&String| !defaults.tags.contains(tag) || asked.tags.contains(tag);
        given.value.iter().filter(is_own).cloned().collect()
    } else {
        given.value.clone()
    };
    let role = settings.role.as_ref().and_then(|role| {
        let only_default = from_file(&role.source)
            && defaults.role.as_ref() == Some(&role.value)
            && asked.role.as_ref() != Some(&role.value);
        (!only_default).then(|| role.value.clone())
    });
    Asked { tags, role }
}
