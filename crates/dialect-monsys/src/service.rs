//! The service of a monsys host: one signed heartbeat on the hub's interval.

mod agent;
mod on_disk;
mod transport;

use agent::Agent;
use agent_core::environment::Environment;
#[cfg(doc)]
use agent_core::error::ErrorId;
use agent_core::error::Result;
use agent_core::flags::Flags;
use agent_core::hub::client::Client;
use agent_core::service::run_heartbeats;

/// Sends heartbeats of an enrolled host until SIGTERM or SIGINT.
///
/// # Errors
/// [`ErrorId::NotEnrolled`] when there is no credential, or the credential is removed meanwhile, and
/// [`ErrorId::StepNeeded`]. A heartbeat that fails is not an error.
pub async fn run(flags: &Flags, environment: &Environment) -> Result<()> {
    run_heartbeats(environment, async || {
        Agent::<Client>::load(flags, environment)
    })
    .await
}

#[cfg(test)]
mod tests;
