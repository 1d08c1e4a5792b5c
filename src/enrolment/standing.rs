//! Where this host stands: new, enrolled, half-way, or a copy of another host.

use std::path::Path;

use uuid::Uuid;

use super::persist::{self, Paths};
use crate::error::Result;
use crate::facts::fingerprint::Fingerprint;
use crate::identity::{Identity, KEY_FILE};
use crate::settings::{Origin, Settings};
use crate::store::state::{Asked, State};
use crate::tags;
use crate::token::Secret;
use crate::world::World;

/// Where this host stands.
#[derive(Debug)]
pub enum Standing {
    /// Nothing here speaks of a hub.
    New,
    /// A per-agent token is in agent.toml, and no hub has confirmed it yet.
    Unconfirmed(Secret),
    /// Enrolled.
    Enrolled(Box<Enrolled>),
    /// What is on this disk belongs to another machine.
    Clone,
}

/// An enrolled host.
#[derive(Debug)]
pub struct Enrolled {
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
}

impl Standing {
    /// Reads it from agent.toml, the key and the state.
    ///
    /// # Errors
    /// A broken agent.toml or key.
    pub fn of(settings: &Settings, paths: &Paths, world: &World) -> Result<Self> {
        let file = &settings.file;
        let token = file.agent_token()?;
        let id = file.agent_id()?;
        let key = Identity::load(&paths.state_dir, KEY_FILE)?;
        let state = State::load(&paths.state_dir);
        if (token.is_some() || key.is_some())
            && let Some(state) = &state
            && !state.fingerprint.is_same_machine(&Fingerprint::of(world))
            && persist::half_done(settings, paths)?.is_none()
        {
            return Ok(Self::Clone);
        }
        Ok(match (token, id) {
            (Some(agent_token), Some(agent_id)) => Self::Enrolled(Box::new(Enrolled {
                agent_id,
                agent_token,
                hub_url: match &file.settings().hub_url {
                    Some(url) => url.trim().trim_end_matches('/').to_owned(),
                    None => settings.hub_url.value.to_string(),
                },
                tags: file.settings().tags.clone().unwrap_or_default(),
                role: file.settings().role.clone().filter(|role| !role.is_empty()),
                state,
                key_is_lost: key.is_none(),
            })),
            (Some(agent_token), None) => Self::Unconfirmed(agent_token),
            (None, _) => Self::New,
        })
    }
}

impl Enrolled {
    /// Whether the host has what `asked` says, so that nothing needs to be sent.
    pub(super) fn has(&self, asked: &Asked) -> bool {
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

    /// The host's own part of its tags and role: what this run or the user's own edit of
    /// agent.toml says, without what only the token's defaults brought.
    pub(super) fn own(&self, settings: &Settings) -> Asked {
        own(settings, self.state.as_ref())
    }
}

/// As [`Enrolled::own`], for a copy of another host.
pub(super) fn own_of_clone(settings: &Settings, state_dir: &Path) -> Asked {
    own(settings, State::load(state_dir).as_ref())
}

fn own(settings: &Settings, state: Option<&State>) -> Asked {
    let (defaults, asked) = match state {
        Some(state) => (&state.defaults, &state.asked),
        None => (&Asked::default(), &Asked::default()),
    };
    let from_file = |origin: &Origin| matches!(origin, Origin::Key(..));
    let given = &settings.tags;
    let tags = if from_file(&given.origin) {
        let is_own = |tag: &&String| !defaults.tags.contains(tag) || asked.tags.contains(tag);
        given.value.iter().filter(is_own).cloned().collect()
    } else if given.origin.is_asked() {
        given.value.clone()
    } else {
        Vec::new()
    };
    let role = settings.role.as_ref().and_then(|role| {
        let only_default = from_file(&role.origin)
            && defaults.role.as_ref() == Some(&role.value)
            && asked.role.as_ref() != Some(&role.value);
        (!only_default).then(|| role.value.clone())
    });
    Asked { tags, role }
}
