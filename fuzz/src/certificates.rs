//! PEM and X.509: a client certificate, its CA and its key; a CA file.

use std::time::{Duration, SystemTime};

use agent_core::escape::is_hidden;
use monsys_agent::fuzzing;

/// Parts: a certificate with its chain, then the CA, then the key. A certificate is accepted within its
/// dates alone, and for its key alone; a key that is accepted is the same after it was written.
pub fn certificates(bytes: &[u8]) {
    let [certificate, ca, key] = crate::parts(bytes);
    let key = fuzzing::client_key(key.as_bytes());
    if let Some((public, pem)) = &key {
        let again = fuzzing::client_key(pem.as_bytes());
        assert_eq!(again.as_ref(), Some(&(public.clone(), pem.clone())));
    }
    for pem in [&certificate, &ca] {
        match fuzzing::ca_pins(pem.as_bytes()) {
            Ok(pins) => {
                assert!(!pins.is_empty());
                // The same certificates again, with text between them, are the same.
                let twice = format!("{pem}\n# again\n{pem}");
                assert_eq!(
                    fuzzing::ca_pins(twice.as_bytes()),
                    Ok([&pins[..], &pins].concat())
                );
            }
            Err(cause) => assert!(!cause.is_empty()),
        }
    }
    match fuzzing::certificate_times(certificate.as_bytes()) {
        Ok([renew, expire]) => {
            assert!(renew <= expire);
            let public = key.map(|(public, _)| public).unwrap_or_default();
            check(&certificate, &ca, &public, [renew, expire]);
        }
        Err(cause) => is_printable(&cause),
    }
}

fn check(pem: &str, ca: &str, public: &[u8], [renew, expire]: [SystemTime; 2]) {
    let check = |public: &[u8], at| {
        let checked = fuzzing::check_certificate(pem.as_bytes(), public, ca.as_bytes(), at);
        checked.inspect_err(|cause| is_printable(cause))
    };
    let after = expire + Duration::from_secs(1);
    let before = SystemTime::UNIX_EPOCH;
    assert!(check(public, after).is_err(), "accepted when expired");
    assert!(check(public, before).is_err(), "accepted before its time");
    let _ = check(public, expire);
    if check(public, renew).is_ok() {
        let mut other = public.to_vec();
        if let Some(last) = other.last_mut() {
            *last ^= 1;
        }
        assert!(check(&other, renew).is_err(), "accepted for another key");
        assert!(!public.is_empty(), "accepted without a key");
    }
}

fn is_printable(cause: &str) {
    assert!(
        !cause.is_empty() && cause.chars().count() <= 1000,
        "{cause}"
    );
    assert!(!cause.contains(is_hidden), "{cause:?}");
}
