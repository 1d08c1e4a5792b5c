//! The privileged step before the service: enrols the sensor, and hands over a token that could not be
//! written.
//!
//! The documentation of `RavenXcope` has the sensor continue when its env file cannot be written (seed
//! 001). The service's user could read the token nowhere then. So the step hands the token over in memory,
//! and the next step writes it into the env file as soon as that can be written.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::exchange::save_token;
use crate::pending_request::PendingRequest;
use crate::ravenxcope::{Credential, Ravenxcope, UnsavedCredential};
use agent_core::environment::Environment;
use agent_core::error::{Error, Result};
use agent_core::flags::Flags;
use agent_core::service::step;
use agent_core::token::Secret;

/// Name of the file in memory that hands the credential over.
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
/// A failed enrolment.
pub(crate) async fn step(flags: &Flags, environment: &Environment) -> Result<Option<Error>> {
    let host = Ravenxcope::read(flags, environment)?;
    if host.token.is_some() {
        step::remove_handover(FILE, environment);
        return Ok(None);
    }
    if let Some(credential) = handed_over(&host)? {
        return Ok(store(&host, &credential).err());
    }
    let unsaved = UnsavedCredential::default();
    Ravenxcope::enrol_first(flags, environment, &unsaved).await?;
    match unsaved.0.take() {
        Some(credential) => {
            hand_over(&Ravenxcope::read(flags, environment)?, &credential).map(|()| None)
        }
        None => Ok(None),
    }
}

/// Returns the credential that the step has handed over, if there is one.
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

/// Hands a credential over to the service.
fn hand_over(host: &Ravenxcope<'_>, credential: &Credential) -> Result<()> {
    let handed = HandedOver {
        sensor_id: host.id()?.to_owned(),
        sensor_token: Zeroizing::new(credential.token.expose_secret().to_owned()),
        interval_secs: credential.interval.as_secs(),
    };
    let bytes = Zeroizing::new(serde_json::to_vec(&handed).unwrap_or_default());
    step::hand_over(FILE, &bytes, host.environment)
}

/// Writes a credential that was handed over into the env file.
fn store(host: &Ravenxcope<'_>, credential: &Credential) -> Result<()> {
    save_token(host, None, &credential.token)?;
    let hostname = host
        .pending
        .as_ref()
        .and_then(|pending| pending.hostname.clone());
    let hostname = hostname.unwrap_or_default();
    let backend = &host.settings.hub_url.value;
    let pending = PendingRequest::enrolled(
        host.id()?,
        &hostname,
        (&credential.token, credential.interval),
        backend,
        host.environment,
    );
    pending.save(host.file.folder(), host.environment.access())?;
    step::remove_handover(FILE, host.environment);
    Ok(())
}
