//! The service's own registration: the facts anew, with the host's own tags and role.

use crate::host_state;
use crate::identity::Identity;
use crate::plan::Call;
use crate::state::{Asked, State};
use crate::wire::{self, HostDescription};
use agent_core::environment::Environment;
use agent_core::facts::HostFacts;
use agent_core::facts::route::Target;
use agent_core::hub::client::Request;
use agent_core::settings::Settings;
use agent_core::token::Secret;

/// What the host says of itself beside its facts.
#[derive(Debug)]
pub(crate) struct Registration {
    own: Asked,
    machine_id: Option<String>,
}

impl Registration {
    /// The host's own tags and role, as `enrol` would tell them.
    #[must_use]
    pub(crate) fn of(
        settings: &Settings,
        state: Option<&State>,
        machine_id: Option<String>,
    ) -> Self {
        Self {
            own: host_state::own(settings, state),
            machine_id,
        }
    }

    /// The request that registers this host with its own credential.
    #[must_use]
    pub(crate) fn request<'a>(
        &self,
        settings: &Settings,
        environment: &Environment,
        target: &Target,
        bearer: &'a Secret,
        identity: &Identity,
    ) -> Request<'a> {
        let facts = HostFacts::gather(settings, environment, target);
        let introduction = HostDescription {
            facts: &facts,
            machine_id: self.machine_id.as_deref(),
            tags: &self.own.tags,
            role: self.own.role.as_deref(),
        };
        let hub = &settings.hub_url.value;
        wire::request(hub, Call::Register.path(), bearer, &introduction, identity)
    }
}
