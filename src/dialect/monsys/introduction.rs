//! The service's own registration: the facts anew, with the host's own tags and role.

use super::plan::Call;
use super::standing;
use super::wire::{self, Introduction};
use crate::facts::HostFacts;
use crate::facts::route::Target;
use crate::hub::client::Request;
use crate::identity::Identity;
use crate::settings::Settings;
use crate::store::state::{Asked, State};
use crate::token::Secret;
use crate::world::World;

/// What the host says of itself beside its facts.
#[derive(Debug)]
pub struct Introducer(Asked);

impl Introducer {
    /// The host's own tags and role, as `enrol` would tell them.
    #[must_use]
    pub fn of(settings: &Settings, state: Option<&State>) -> Self {
        Self(standing::own(settings, state))
    }

    /// The request that registers this host with its own credential.
    #[must_use]
    pub fn request<'a>(
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
