//! The privileged step before the service: enrols the sensor, and hands the service a token that the
//! env file does not take.
//!
//! `RavenXcope`'s documentation has the sensor go on when its env file cannot be written (seed 001).
//! The service's user could read the token nowhere then, so it is handed over in memory, and the next
//! step puts it into the file as soon as that takes it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::exchange::put;
use crate::pending_request::PendingRequest;
use crate::ravenxcope::{Credential, Memory, Ravenxcope};
use agent_core::environment::Environment;
use agent_core::error::{Error, Result};
use agent_core::flags::Flags;
use agent_core::service::step;
use agent_core::token::Secret;

/// Name of what is handed over.
const FILE: &str = "ravenxcope.json";

/// A credential that is handed over.
#[derive(Serialize, Deserialize)]
struct HandedOver {
    sensor_id: String,
    sensor_token: Zeroizing<String>,
    interval_secs: u64,
}

/// Enrols a sensor that is not enrolled yet.
///
/// # Errors
/// What an enrolment ends with.
pub(crate) async fn step(flags: &Flags, environment: &Environment) -> Result<Option<Error>> {
    let host = Ravenxcope::read(flags, environment)?;
    if host.token.is_some() {
        step::remove_handover(FILE, environment);
        return Ok(None);
    }
    if let Some(credential) = handed_over(&host)? {
        return Ok(store(&host, &credential).err());
    }
    let memory = Memory::default();
    Ravenxcope::enrol_first(flags, environment, &memory).await?;
    match memory.0.take() {
        Some(credential) => {
            hand_over(&Ravenxcope::read(flags, environment)?, &credential).map(|()| None)
        }
        None => Ok(None),
    }
}

/// The credential that the step has handed over, if it did.
///
/// # Errors
/// [`agent_core::error::ErrorId::Unreadable`].
pub(crate) fn handed_over(host: &Ravenxcope<'_>) -> Result<Option<Credential>> {
    let Some(bytes) = step::handed_over(FILE, host.environment)?.map(Zeroizing::new) else {
        return Ok(None);
    };
    let Ok(handed) = serde_json::from_slice::<HandedOver>(&bytes) else {
        return Ok(None);
    };
    if host.id()? != handed.sensor_id {
        return Ok(None);
    }
    Ok(Secret::opaque(&handed.sensor_token)
        .ok()
        .map(|token| Credential {
            token,
            interval: Duration::from_secs(handed.interval_secs.clamp(1, 86_400)),
        }))
}

fn hand_over(host: &Ravenxcope<'_>, credential: &Credential) -> Result<()> {
    let handed = HandedOver {
        sensor_id: host.id()?.to_owned(),
        sensor_token: Zeroizing::new(credential.token.expose_secret().to_owned()),
        interval_secs: credential.interval.as_secs(),
    };
    let bytes = Zeroizing::new(serde_json::to_vec(&handed).unwrap_or_default());
    step::hand_over(FILE, &bytes, host.environment)
}

/// Puts a credential that was handed over into the env file.
fn store(host: &Ravenxcope<'_>, credential: &Credential) -> Result<()> {
    put(host, None, &credential.token)?;
    let hostname = host.mark.as_ref().and_then(|mark| mark.hostname.clone());
    let hostname = hostname.unwrap_or_default();
    let mark =
        PendingRequest::enrolled(host.id()?, &hostname, credential.interval, host.environment);
    mark.save(host.file.folder(), host.environment.access())?;
    step::remove_handover(FILE, host.environment);
    Ok(())
}
