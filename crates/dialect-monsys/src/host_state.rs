//! The state of this host, read once: new, unconfirmed, enrolled, or a clone of another host.

use std::rc::Rc;

use uuid::Uuid;

use crate::identity::{Identity, KEY_FILE};
use crate::paths::Paths;
use crate::state::{Next, State, TagsAndRole};
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::fingerprint::Fingerprint;
use agent_core::plain::given;
use agent_core::service::step;
use agent_core::settings::{HubUrl, Settings};
use agent_core::sourced::Source;
use agent_core::tags;
use agent_core::token::Secret;
use agent_core::token_source::TokenSource;

/// The enrolment state of this host, with the content of state.json if there is one.
#[derive(Debug)]
pub(crate) enum EnrolmentState {
    /// Not enrolled.
    New(Option<Box<State>>),
    /// A per-agent token is in agent.toml, and no hub has confirmed it yet.
    Unconfirmed(Secret, Option<Box<State>>),
    /// Enrolled.
    Enrolled(Box<Enrolled>),
    /// The identity on this disk belongs to another machine.
    Clone(Option<Box<State>>),
}

/// An enrolled host.
#[derive(Debug)]
pub(crate) struct Enrolled {
    /// The agent's id.
    pub agent_id: Uuid,
    /// The agent's credential.
    pub agent_token: Secret,
    /// The URL of the agent's hub.
    pub hub_url: String,
    /// The merged tags of the host and of the token's defaults.
    pub tags: Vec<String>,
    /// The merged role.
    pub role: Option<String>,
    /// The content of state.json, if there is one.
    pub state: Option<State>,
    /// The signing key is missing.
    pub key_is_lost: bool,
    /// agent.toml names the hub that issued the credential.
    pub names_hub: bool,
    /// There is a next key, and it is open whether the hub has it pinned: a rotation was interrupted.
    pub is_next_key_unconfirmed: bool,
}

/// The files of the host beside agent.toml, and the machine, as they were read.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// The content of state.json.
    pub(crate) state: Option<State>,
    /// The current signing key.
    pub(crate) key: Option<Rc<Identity>>,
    /// The fingerprint of this machine.
    pub(crate) machine: Fingerprint,
}

impl Snapshot {
    /// Reads the key, the state and the fingerprint of the machine.
    ///
    /// # Errors
    /// A broken key, and files that cannot be read.
    pub(crate) fn read(paths: &Paths, environment: &Environment) -> Result<Self> {
        let state = State::load(&paths.state_dir)?;
        let record = state.as_ref().and_then(|state| state.step.as_deref());
        Ok(Self {
            key: Identity::load(&paths.state_dir, KEY_FILE)?.map(Rc::new),
            machine: step::machine(record, environment)?,
            state,
        })
    }
}

/// The state of this host, and the files that it was derived from.
#[derive(Debug)]
pub(crate) struct HostState {
    /// New, unconfirmed, enrolled, or a clone.
    pub(crate) enrolment_state: EnrolmentState,
    /// The files.
    pub(crate) snapshot: Snapshot,
}

impl HostState {
    /// Reads the host's files and derives its state. agent.toml was read with the settings.
    ///
    /// # Errors
    /// A broken agent.toml or key, and files that cannot be read.
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
            // state.json was written for the next key: there was none before.
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
        // A next key of another machine is of no use here.
        let is_next_key_unconfirmed = !is_taken_over
            && next.is_some_and(|next| {
                next.confirmed.is_none()
                    && next.machine.is_same_machine(&machine)
                    && paths.state_dir.join(&next.key_file).exists()
            });
        Ok(match (token, id) {
            (Some(agent_token), Some(agent_id)) => Self::Enrolled(Box::new(Enrolled {
                agent_id,
                agent_token,
                hub_url: issuer(settings, state.as_ref())?,
                names_hub: file.settings().hub_url.is_some(),
                tags: file.settings().tags.clone().unwrap_or_default(),
                role: given(file.settings().role.as_deref()).map(|role| role.trim().to_owned()),
                state,
                key_is_lost,
                is_next_key_unconfirmed,
            })),
            (Some(agent_token), None) => Self::Unconfirmed(agent_token, state.map(Box::new)),
            (None, _) => Self::New(state.map(Box::new)),
        })
    }

    /// Returns whether a run needs a token from its token source.
    #[must_use]
    pub(crate) fn takes_token(&self, settings: &Settings, force: bool) -> bool {
        match self {
            // The credential is all that is left of the identity: only a token that a flag or the
            // environment of this run names may replace it.
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

/// Returns the hub that issued the credential in agent.toml. The credential goes to no other hub, and not
/// to the built-in default, which no operator named.
fn issuer(settings: &Settings, state: Option<&State>) -> Result<String> {
    let written = settings.file.settings().hub_url.as_deref().map(str::trim);
    match written.filter(|url| !url.is_empty()) {
        Some(url) => {
            if let Some(issued_by) = state.and_then(|state| state.hub.as_deref())
                && !settings.hub_url.source.is_explicit()
                && settings.hub_url.value.origin() != issued_by
            {
                return Err(Error::new(
                    ErrorId::ConfigBroken,
                    format!("`hub_url` was changed: the credential was issued by {issued_by}, and goes to no other hub"),
                )
                .about(settings.file.path().display())
                .hint(format!("set `hub_url` back; or, if this is the same hub with a new name: monsys-agent enrol --hub-url {url}")));
            }
            Ok(url.trim_end_matches('/').to_owned())
        }
        None if settings.hub_url.source.is_explicit() => Ok(settings.hub_url.value.to_string()),
        None => Err(Error::new(
            ErrorId::ConfigBroken,
            "the file holds a credential, and does not name the hub that issued it",
        )
        .about(settings.file.path().display())
        .hint("monsys-agent enrol --hub-url URL, which confirms the credential at that hub and stores the URL")),
    }
}

/// Returns whether agent.toml names the agent that the hub has confirmed for the next key. Then only the
/// remaining files have to be written.
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
    /// Returns whether the credential is one of the hub that this run names.
    pub(crate) fn is_of_hub(&self, settings: &Settings) -> bool {
        // agent.toml may spell the same URL in another way.
        HubUrl::parse(&self.hub_url, true, &Source::Default)
            .is_ok_and(|own| own == settings.hub_url.value)
    }

    /// Returns whether a flag or a variable of this run names another hub than that of the credential.
    pub(crate) fn is_of_other_hub(&self, settings: &Settings) -> bool {
        settings.hub_url.source.is_explicit() && !self.is_of_hub(settings)
    }

    /// Checks that the flag or the variable of this run, if any, names the hub of this credential. Each
    /// request that shows the credential comes after this check: another hub could use what it reads.
    ///
    /// # Errors
    /// [`ErrorId::OtherHub`].
    pub(crate) fn refuse_other_hub(&self, settings: &Settings) -> Result<()> {
        let requested = &settings.hub_url;
        if self.is_of_other_hub(settings) {
            return Err(Error::new(
                ErrorId::OtherHub,
                format!("{} names {}", requested.source, requested.value),
            )
            .about(&self.hub_url));
        }
        Ok(())
    }

    /// Returns whether the host has all of its files, and no remains of a killed run.
    #[must_use]
    pub(crate) fn is_complete(&self, paths: &Paths) -> bool {
        paths.are_complete(self.agent_id, self.state.as_ref())
    }

    /// Returns whether a forced enrolment or an unenrolment has begun and not ended.
    #[must_use]
    pub(crate) fn is_renewing(&self) -> bool {
        self.state.as_ref().is_some_and(State::may_be_dead)
    }

    /// Returns whether the host has the tags and the role of `own` already, so that no request is needed.
    pub(crate) fn has(&self, own: &TagsAndRole) -> bool {
        self.names_hub && self.has_tags_and_role(own)
    }

    fn has_tags_and_role(&self, own: &TagsAndRole) -> bool {
        match &self.state {
            Some(state) if state.enrolled_at.is_some() => {
                let expected = tags::merge(&state.defaults.tags, &own.tags);
                let role = tags::merge_role(state.defaults.role.as_deref(), own.role.as_deref());
                let same_tags = own.tags.len() == state.requested.tags.len()
                    && own
                        .tags
                        .iter()
                        .all(|tag| state.requested.tags.contains(tag));
                same_tags
                    && own.role == state.requested.role
                    && expected == self.tags
                    && role == self.role
            }
            // Without the state, the origin of a tag is unknown.
            _ => {
                own.tags.iter().all(|tag| self.tags.contains(tag))
                    && own
                        .role
                        .as_ref()
                        .is_none_or(|role| Some(role) == self.role.as_ref())
            }
        }
    }
}

/// Returns the host's own tags and role: those of this run's settings or of an edit of agent.toml, without
/// the tags and the role that only the token's defaults have added.
pub(crate) fn own(settings: &Settings, state: Option<&State>) -> TagsAndRole {
    let (defaults, requested) = match state {
        Some(state) => (&state.defaults, &state.requested),
        None => (&TagsAndRole::default(), &TagsAndRole::default()),
    };
    let from_file = |source: &Source| matches!(source, Source::Key(..));
    let all = &settings.tags;
    let tags = if from_file(&all.source) {
        let is_own = |tag: &&String| !defaults.tags.contains(tag) || requested.tags.contains(tag);
        all.value.iter().filter(is_own).cloned().collect()
    } else {
        all.value.clone()
    };
    let role = settings.role.as_ref().and_then(|role| {
        let only_default = from_file(&role.source)
            && defaults.role.as_ref() == Some(&role.value)
            && requested.role.as_ref() != Some(&role.value);
        (!only_default).then(|| role.value.clone())
    });
    TagsAndRole { tags, role }
}
