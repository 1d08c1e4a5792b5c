//! The credential that the service's heartbeats go out with.

use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::flags::Flags;
use agent_core::service;

use crate::ravenxcope::{Memory, Ravenxcope};
use crate::sensor::Sensor;
use crate::step;

impl<'a> Ravenxcope<'a> {
    /// The sensor that heartbeats go out for. Where one user runs everything, it is enrolled first.
    pub(crate) async fn admit(
        flags: &'a Flags,
        environment: &'a Environment,
        memory: &Memory,
    ) -> Result<Sensor<'a>> {
        let host = Self::read(flags, environment)?;
        if host.token.is_some() {
            return Sensor::of_disk(host);
        }
        if let Some(credential) = step::handed_over(&host)? {
            return Sensor::new(host, credential);
        }
        if service::step::is_own(&host) {
            Self::enrol_first(flags, environment, memory).await?;
        }
        let host = Self::read(flags, environment)?;
        match memory.0.take() {
            Some(credential) => Sensor::new(host, credential),
            None => Sensor::of_disk(host),
        }
    }
}
