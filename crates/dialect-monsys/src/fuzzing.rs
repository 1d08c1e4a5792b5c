//! Entry points of the fuzz targets (`fuzz/`) into private code.

use std::time::SystemTime;

use agent_core::clock;
use agent_core::hub::client::Reply;

use crate::hub_clock::HubClock;
use crate::identity::Identity;

/// Returns the public key of a signing key file and the signature of `body`, both in base64. `None` when
/// the bytes are not a key.
#[must_use]
pub fn signing_key(bytes: &[u8], body: &[u8]) -> Option<[String; 2]> {
    let identity = Identity::from_seed(bytes)?;
    Some([identity.public_key(), identity.sign(body)])
}

/// Returns the time (RFC 3339) of a heartbeat at `later`, after a hub has refused a heartbeat at `now`
/// with its own time as `date`.
#[must_use]
pub fn stamp_by_hub(date: SystemTime, now: SystemTime, later: SystemTime) -> String {
    let mut clock = HubClock::default();
    let refusal = Reply {
        status: 409,
        date: Some(date),
        ..Reply::default()
    };
    clock.learn(&refusal, now);
    clock::rfc3339_millis(clock.at(later))
}
