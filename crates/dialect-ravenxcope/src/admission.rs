//! The admission of the sensor to the service: its credential, and the enrolment before it if needed.

use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::flags::Flags;
use agent_core::service;

use crate::ravenxcope::{Ravenxcope, UnsavedCredential};
use crate::sensor::Sensor;
use crate::step;

impl<'a> Ravenxcope<'a> {
    /// Returns the sensor of the heartbeat loop. Where the service does its own privileged step, enrols the
    /// sensor first.
    ///
    /// # Errors
    /// Wrong settings, a failed enrolment, and [`agent_core::error::ErrorId::NotEnrolled`].
    pub(crate) async fn admit(
        flags: &'a Flags,
        environment: &'a Environment,
        unsaved: &UnsavedCredential,
    ) -> Result<Sensor<'a>> {
        let host = Self::read(flags, environment)?;
        if host.token.is_some() {
            return Sensor::from_disk(host);
        }
        if let Some(credential) = step::handed_over(&host)? {
            return Sensor::new(host, credential);
        }
        if service::step::is_own(&host) {
            Self::enrol_first(flags, environment, unsaved).await?;
        }
        let host = Self::read(flags, environment)?;
        match unsaved.0.take() {
            Some(credential) => Sensor::new(host, credential),
            None => Sensor::from_disk(host),
        }
    }
}
