//! The enrolment by the service or by the privileged step, where the sensor is not enrolled yet.

use agent_core::enrolment::{self, Dialect};
use agent_core::environment::Environment;
use agent_core::error::{Kind as ErrorKind, Result};
use agent_core::flags::Flags;
use agent_core::hub::retry::Limit;
use agent_core::token::Token;

use crate::exchange::EnrolRequest;
use crate::ravenxcope::{Ravenxcope, UnsavedCredential, warn_unsaved};

impl Ravenxcope<'_> {
    /// Enrols a sensor that is not enrolled. Without `--strict`, an env file that cannot be written is a
    /// warning, and `unsaved` gets the credential.
    ///
    /// # Errors
    /// A failed enrolment.
    pub(crate) async fn enrol_first(
        flags: &Flags,
        environment: &Environment,
        unsaved: &UnsavedCredential,
    ) -> Result<()> {
        let fallback = (!is_strict(flags)).then_some(unsaved);
        let read = || -> Result<Ravenxcope<'_>> {
            let host = Ravenxcope::read(flags, environment)?;
            Ok(Ravenxcope {
                unsaved: fallback,
                ..host
            })
        };
        let open = || -> Result<Box<dyn Dialect + '_>> { Ok(Box::new(read()?)) };
        match enrolment::enrol_by(&open, false, None, environment).await {
            // No request was sent yet: after the lock, `unsaved` gets what cannot be written.
            Err(error) if !is_strict(flags) && error.id().kind() == ErrorKind::Unwritable => {
                warn_unsaved(&error);
                read()?.enrol_unlocked().await
            }
            other => other.map(drop),
        }
    }

    /// Enrols without the lock, where the folder of the lock cannot be written.
    async fn enrol_unlocked(&self) -> Result<()> {
        let limit = Limit::of(self.settings.wait.value);
        let secret = enrolment::fetch(self, self.environment, limit).await?;
        let secret = secret.as_ref();
        Dialect::plan(self, secret.map(Token::kind), false)?;
        let mut request = EnrolRequest::prepare(self, secret)?;
        enrolment::run_exchange(
            &mut request,
            secret,
            &self.settings,
            self.environment,
            limit,
        )
        .await?;
        Ok(())
    }
}

/// Returns whether `--strict` is set: a credential that cannot be written is an error then.
fn is_strict(flags: &Flags) -> bool {
    flags.own("--strict").is_some()
}
