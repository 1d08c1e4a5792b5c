//! The enrolment that the service or the privileged step does first, where the sensor is not enrolled yet.

use agent_core::enrolment::{self, Dialect};
use agent_core::environment::World;
use agent_core::error::{Kind as ErrorKind, Result};
use agent_core::flags::Flags;
use agent_core::hub::retry::Limit;
use agent_core::token::Token;

use crate::asking::Asking;
use crate::ravenxcope::{Memory, Ravenxcope, warn_of};

impl Ravenxcope<'_> {
    /// Enrols a sensor that is not enrolled. Without `--strict`, a sink that takes nothing is a
    /// warning, and `memory` holds the credential then.
    pub(crate) async fn enrol_first(flags: &Flags, world: &World, memory: &Memory) -> Result<()> {
        let kept = (!is_strict(flags)).then_some(memory);
        let read = || -> Result<Ravenxcope<'_>> {
            let host = Ravenxcope::read(flags, world)?;
            Ok(Ravenxcope {
                memory: kept,
                ..host
            })
        };
        let open = || -> Result<Box<dyn Dialect + '_>> { Ok(Box::new(read()?)) };
        match enrolment::enrol_by(open, false, None, world).await {
            // Nothing was sent yet: afterwards the memory takes what the disk does not.
            Err(error) if !is_strict(flags) && error.id().kind() == ErrorKind::Unwritable => {
                warn_of(&error);
                read()?.enrol_unlocked().await
            }
            other => other.map(drop),
        }
    }

    /// Asks without the lock, which there is no place for.
    async fn enrol_unlocked(&self) -> Result<()> {
        let limit = Limit::of(self.settings.wait);
        let secret = enrolment::fetch(self, self.world, limit).await?;
        let secret = secret.as_ref();
        Dialect::plan(self, secret.map(Token::kind), false)?;
        let mut asking = Asking::new(self, secret)?;
        enrolment::ask(&mut asking, secret, &self.settings, self.world, limit).await?;
        Ok(())
    }
}

/// Whether `--strict` was given: a credential that cannot be written is an error.
fn is_strict(flags: &Flags) -> bool {
    flags.own("--strict").is_some()
}
