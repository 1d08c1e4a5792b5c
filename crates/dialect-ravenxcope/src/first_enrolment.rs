//! The enrolment that the service or the privileged step does first, where the sensor is not enrolled yet.

use agent_core::enrolment::{self, Dialect};
use agent_core::environment::Environment;
use agent_core::error::{Kind as ErrorKind, Result};
use agent_core::flags::Flags;
use agent_core::hub::retry::Limit;
use agent_core::token::Token;

use crate::exchange::EnrolRequest;
use crate::ravenxcope::{Memory, Ravenxcope, warn_of};

impl Ravenxcope<'_> {
    /// Enrols a sensor that is not enrolled. Without `--strict`, a sink that takes nothing is a
    /// warning, and `memory` holds the credential then.
    pub(crate) async fn enrol_first(
        flags: &Flags,
        environment: &Environment,
        memory: &Memory,
    ) -> Result<()> {
        let kept = (!is_strict(flags)).then_some(memory);
        let read = || -> Result<Ravenxcope<'_>> {
            let host = Ravenxcope::read(flags, environment)?;
            Ok(Ravenxcope {
                memory: kept,
                ..host
            })
        };
        let open = || -> Result<Box<dyn Dialect + '_>> { Ok(Box::new(read()?)) };
        match enrolment::enrol_by(&open, false, None, environment).await {
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
        let secret = enrolment::fetch(self, self.environment, limit).await?;
        let secret = secret.as_ref();
        Dialect::plan(self, secret.map(Token::kind), false)?;
        let mut asking = EnrolRequest::new(self, secret)?;
        enrolment::run_exchange(&mut asking, secret, &self.settings, self.environment, limit)
            .await?;
        Ok(())
    }
}

/// Whether `--strict` was given: a credential that cannot be written is an error.
fn is_strict(flags: &Flags) -> bool {
    flags.own("--strict").is_some()
}
