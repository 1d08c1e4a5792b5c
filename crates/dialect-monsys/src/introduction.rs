//! The service's own registration: the facts anew, with the host's own tags and role.

use crate::identity::Identity;
use crate::plan::Call;
use crate::standing;
use crate::state::{Asked, State};
use crate::wire::{self, Introduction};
use agent_core::environment::World;
use agent_core::facts::HostFacts;
use agent_core::facts::route::Target;
use agent_core::hub::client::Request;
use agent_core::settings::Settings;
use agent_core::token::Secret;

/// What the host says of itself beside its facts.
#[derive(Debug)]
pub(crate) struct Introducer(Asked);

impl Introducer {
    /// The host's own tags and role, as `enrol` would tell them.
    #[must_use]
    pub(crate) fn of(settings: &Settings, state: Option<&State>) -> Self {
        Self(standing::own(settings, state))
    }

    /// The request that registers this host with its own credential.
    #[must_use]
    pub(crate) fn request<'a>(
        &self,
        settings: &Settings,
        world: &World,
        target: &Target,
        bearer: &'a Secret,
        identity: &Identity,
    ) -> Request<'a> {
        let facts = HostFacts::gather(settings, world, target);
        let introduction = Introduction {
            facts: &facts,
            tags: &self.0.tags,
            role: self.0.role.as_deref(),
        };
        let hub = &settings.hub_url.value;
        wire::request(hub, Call::Register.path(), bearer, &introduction, identity)
    }
}
