//! The errors of rustls and webpki in words. Their own texts are Rust's `Debug` output for the most part.

use std::fmt::Debug;

use rustls::{AlertDescription, CertificateError, Error, OtherError, PeerIncompatible};

/// Returns what went wrong in TLS.
#[must_use]
pub fn tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::AlertReceived(alert) => format!("the server ended TLS with {}", self::alert(*alert)),
        Error::InvalidMessage(detail) => format!("invalid TLS message: {}", words(detail)),
        Error::PeerIncompatible(PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon) => {
            "the server accepts no ECDSA certificate of a host".into()
        }
        Error::PeerIncompatible(detail) => {
            format!(
                "the server's TLS and the agent's have nothing in common: {}",
                words(detail)
            )
        }
        Error::PeerMisbehaved(detail) => {
            format!("the server breaks the rules of TLS: {}", words(detail))
        }
        Error::InvalidEncryptedClientHello(detail) => words(detail),
        Error::InvalidCertRevocationList(detail) => {
            format!("the revocation list is not valid: {}", words(detail))
        }
        Error::InconsistentKeys(detail) => {
            format!(
                "the certificate and the key do not belong together: {}",
                words(detail)
            )
        }
        Error::General(text) => text.clone(),
        Error::Other(error) => other(error),
        // A variant without its data.
        error => words(error),
    }
}

/// Returns what is wrong with a certificate.
#[must_use]
pub fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Other(error) => other(error),
        CertificateError::UnknownIssuer => "its chain ends in a CA that is not trusted here".into(),
        CertificateError::BadSignature => {
            "its signature is not that of its CA, or the CA's key is RSA of less than 2048 bits"
                .into()
        }
        CertificateError::BadEncoding => "it is not a certificate in DER".into(),
        CertificateError::Revoked => "it is revoked".into(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not meant for servers (extendedKeyUsage)".into()
        }
        error if is_key_type(error) => KEY_TYPE.into(),
        error => words(error),
    }
}

const KEY_TYPE: &str = "it, or a CA of its chain, has a key or signature of a kind that the agent does not support, such as P-521, SHA-1 or RSA of less than 2048 bits";

/// Returns whether a signature of the chain is of a kind that is not supported.
#[must_use]
#[expect(deprecated, reason = "webpki may still return it")]
pub fn is_key_type(error: &CertificateError) -> bool {
    matches!(
        error,
        CertificateError::UnsupportedSignatureAlgorithm
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
    )
}

/// Returns what webpki finds wrong with a certificate.
#[must_use]
pub fn webpki(error: &webpki::Error) -> String {
    use webpki::Error as E;
    match error {
        E::CaUsedAsEndEntity => {
            "it is the certificate of a CA (CA:TRUE), and not of a server".into()
        }
        E::UnsupportedCertVersion => "it, or a CA that came with it, is of X.509 version 1, and TLS needs version 3: only a root that is trusted here may be of version 1".into(),
        E::BadDer | E::BadDerTime | E::TrailingData(_) => "it is not a certificate in DER".into(),
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => KEY_TYPE.into(),
        error => words(error),
    }
}

/// Returns the number and the name of an alert, as other tools print them.
fn alert(alert: AlertDescription) -> String {
    let number = u8::from(alert);
    match alert {
        AlertDescription::Unknown(_) => format!("alert {number}"),
        AlertDescription::HandshakeFailure => format!(
            "alert {number}, handshake failure: it may have a key that the agent does not support, such as P-521, or require other ciphers"
        ),
        _ => format!("alert {number}, {}", words(&alert)),
    }
}

fn other(OtherError(error): &OtherError) -> String {
    match error.downcast_ref::<webpki::Error>() {
        Some(error) => webpki(error),
        None => "an error without a name".into(),
    }
}

/// Returns the name of an enum's variant as words: `NoCipherSuitesInCommon` is `no cipher suites in common`.
/// The data of the variant is left out.
pub(crate) fn words(variant: &impl Debug) -> String {
    let name = format!("{variant:?}");
    let letters: Vec<char> = name
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect();
    let mut words = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let follows_small = at > 0 && !letters[at - 1].is_ascii_uppercase();
        let precedes_small = letters.get(at + 1).is_some_and(char::is_ascii_lowercase);
        if at > 0 && letter.is_ascii_uppercase() && (follows_small || precedes_small) {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn the_name_of_a_variant_becomes_words() {
        #[derive(Debug)]
        #[expect(dead_code, reason = "the data is left out")]
        enum Variant {
            NoKxGroupsInCommon,
            UnknownCA(u8),
            UnknownPSKIdentity { id: u8 },
        }
        for (variant, expected) in [
            (Variant::NoKxGroupsInCommon, "no kx groups in common"),
            (Variant::UnknownCA(1), "unknown ca"),
            (
                Variant::UnknownPSKIdentity { id: 1 },
                "unknown psk identity",
            ),
        ] {
            assert_eq!(words(&variant), expected);
        }
    }
}
