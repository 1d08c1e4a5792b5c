//! The host of this dialect: its settings, and its files.

use std::time::Duration;

use agent_core::enrolment::{self, Dialect, Held};
use agent_core::environment::World;
use agent_core::error::Result;
use agent_core::flags::Flags;
use agent_core::hub::retry::Limit;
use agent_core::settings::Settings;
use agent_core::store::lock::Lock;
use agent_core::token::Kind;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::paths::Paths;
use crate::plan::{self, Plan};
use crate::standing::Standing;

/// How long the service waits for a run that has the lock.
pub(crate) const MOMENT: Duration = Duration::from_millis(300);

/// This host, as it stands to a monsys hub.
pub(crate) struct Monsys<'a> {
    pub(crate) flags: &'a Flags,
    pub(crate) world: &'a World,
    pub(crate) settings: Settings,
    pub(crate) paths: Paths,
}

impl<'a> Monsys<'a> {
    /// Reads the settings and agent.toml.
    ///
    /// # Errors
    /// As [`Settings::resolve`].
    pub(crate) fn read(flags: &'a Flags, world: &'a World) -> Result<Self> {
        let settings = Settings::resolve(flags, world)?;
        Ok(Self {
            paths: Paths::of(&settings, world),
            flags,
            world,
            settings,
        })
    }

    /// As [`Monsys::read`], without agent.toml where that may not be read.
    ///
    /// # Errors
    /// As [`Settings::resolve_without`].
    pub(crate) fn read_for_facts(flags: &'a Flags, world: &'a World) -> Result<Self> {
        let settings = Settings::resolve_without(flags, world)?;
        Ok(Self {
            paths: Paths::of(&settings, world),
            flags,
            world,
            settings,
        })
    }

    pub(crate) fn standing(&self) -> Result<Standing> {
        Standing::of(&self.settings, &self.paths, self.world)
    }

    pub(crate) fn plan_of_hub(&self, token: Option<Kind>, force: bool) -> Result<Plan> {
        plan::plan(self.standing()?, &self.settings, token, force, self.world)
    }
}

/// Enrols this host at a monsys hub. See [`enrolment::enrol_by`].
pub(crate) async fn enrol(flags: &Flags, world: &World) -> Result<enrolment::Enrolment> {
    let open = || -> Result<Box<dyn Dialect + '_>> {
        enrolment::checked(Box::new(Monsys::read(flags, world)?), world)
    };
    enrolment::enrol_by(open, false, None, world).await
}

/// What an enrolled host has.
pub(crate) fn held(agent_id: Uuid, tags: Value, role: Value, paths: &Paths) -> Vec<Held> {
    [
        ("agent", "agent_id", json!(agent_id)),
        ("tags", "tags", tags),
        ("role", "role", role),
        ("config", "config", json!(paths.config)),
    ]
    .map(|(label, key, value)| Held { label, key, value })
    .into()
}

/// Takes the lock, for what only a monsys hub has. See [`enrolment::locked`].
pub(crate) async fn locked(
    flags: &Flags,
    world: &World,
    limit: Limit,
) -> Result<(Settings, Paths, Option<Lock>)> {
    locked_under(None, flags, world, limit).await
}

/// As [`locked`], for a caller that may hold the lock already.
pub(crate) async fn locked_under(
    held: Option<&Lock>,
    flags: &Flags,
    world: &World,
    limit: Limit,
) -> Result<(Settings, Paths, Option<Lock>)> {
    let read = || Monsys::read(flags, world);
    let (host, lock) = enrolment::locked(read, |host| host, held, limit, world).await?;
    Ok((host.settings, host.paths, lock))
}
