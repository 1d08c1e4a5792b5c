//! Entry points of the fuzz targets (`fuzz/`) into private code.

use std::time::SystemTime;

use agent_core::hub::client::Reply;
use agent_core::hub::response::{self, Outcome};

use crate::certificate::{Certificate, Clock};
use crate::key::HostKey;
use crate::wire;

/// Reads the response to an enrolment. Returns its fields by their names.
#[must_use]
pub fn enrolment(url: &str, reply: Reply) -> Outcome<Vec<(&'static str, String)>> {
    response::classify(url, Ok(reply), |reply| {
        let certified = wire::certified(reply)?;
        Ok(vec![
            ("agent_id", certified.agent_id),
            ("certificate_pem", certified.certificate_pem),
            ("ca_pem", certified.ca_pem),
        ])
    })
}

/// Reads the response to the proof of a certificate. Returns its fields by their names.
#[must_use]
pub fn proof(url: &str, reply: Reply) -> Outcome<Vec<(&'static str, String)>> {
    response::classify(url, Ok(reply), |reply| {
        Ok(vec![("agent_id", wire::known_as(reply)?)])
    })
}

/// Returns the time of a client certificate's renewal, and the time at which it expires.
///
/// # Errors
/// The reason why the PEM file is not a certificate.
pub fn certificate_times(pem: &[u8]) -> std::result::Result<[SystemTime; 2], String> {
    let certificate = Certificate::from_pem(pem)?;
    Ok([certificate.renew_at(), certificate.expires_at()])
}

/// Checks a client certificate for a public key, with the CA that came with it.
///
/// # Errors
/// The check that failed.
pub fn check_certificate(
    pem: &[u8],
    public_key: &[u8],
    ca_pem: &[u8],
    now: SystemTime,
) -> std::result::Result<(), String> {
    let clock = Clock {
        server: None,
        host: now,
    };
    Ok(Certificate::from_pem(pem)?.check(public_key, ca_pem, clock)?)
}

/// Returns the public key of a client key's PEM file (`SubjectPublicKeyInfo`, DER), and the file as the
/// agent writes it.
#[must_use]
pub fn client_key(pem: &[u8]) -> Option<(Vec<u8>, String)> {
    let key = HostKey::from_pem(pem)?;
    Some((key.public(), key.to_pem().to_string()))
}
