//! The host's key for a client certificate, and the certificate request. The key is never sent.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// Longest common name of a subject, in characters (RFC 5280, ub-common-name).
const COMMON_NAME: usize = 64;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const BIT_STRING: u8 = 0x03;
const UTF8_STRING: u8 = 0x0c;
const VERSION_0: &[u8] = &[0x02, 0x01, 0x00];
const NO_ATTRIBUTES: &[u8] = &[0xa0, 0x00];
/// `2.5.4.3`
const ID_COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];
/// `1.2.840.10045.4.3.2`
const ID_ECDSA_WITH_SHA256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// `1.2.840.10045.2.1` and `1.2.840.10045.3.1.7`
const ID_P256: &[u8] = &[
    0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
    0x03, 0x01, 0x07,
];

/// An ECDSA key on P-256.
pub(crate) struct HostKey {
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
    random: SystemRandom,
}

impl HostKey {
    /// Makes a new key. Returns `None` when the system gives no random bytes.
    #[must_use]
    pub(crate) fn make() -> Option<Self> {
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).ok()?;
        Self::from_pkcs8(made.as_ref())
    }

    /// Reads a key from a PEM file (PKCS#8). Returns `None` for any other content.
    #[must_use]
    pub(crate) fn from_pem(pem: &[u8]) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(agent_core::pem::without_mark(pem)).ok()?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der, &random).ok()?;
        Some(Self {
            pair,
            pkcs8: Zeroizing::new(der.to_vec()),
            random,
        })
    }

    /// Returns the content of the key's file.
    #[must_use]
    pub(crate) fn to_pem(&self) -> Zeroizing<String> {
        pem("PRIVATE KEY", &self.pkcs8)
    }

    /// Returns the key as TLS needs it.
    #[must_use]
    pub(crate) fn for_tls(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()).into()
    }

    /// Returns the public key (`SubjectPublicKeyInfo`, DER), as a certificate has it.
    #[must_use]
    pub(crate) fn public(&self) -> Vec<u8> {
        let point = [&[0], self.pair.public_key().as_ref()].concat();
        der(
            SEQUENCE,
            &[&der(SEQUENCE, &[ID_P256]), &der(BIT_STRING, &[&point])],
        )
    }

    /// Returns a certificate request (PKCS#10, RFC 2986) in PEM, with the host's name as its subject.
    /// `None` when the system gives no random bytes.
    #[must_use]
    pub(crate) fn request(&self, hostname: &str) -> Option<String> {
        let info = self.request_info(hostname);
        let signature = self.pair.sign(&self.random, &info).ok()?;
        let signature = der(BIT_STRING, &[&[0], signature.as_ref()]);
        let algorithm = der(SEQUENCE, &[ID_ECDSA_WITH_SHA256]);
        let request = der(SEQUENCE, &[&info, &algorithm, &signature]);
        Some(pem("CERTIFICATE REQUEST", &request).to_string())
    }

    /// Returns whether `pem` is a certificate request for this key with the host's name as its subject. The
    /// signature is not verified.
    #[must_use]
    pub(crate) fn has_made(&self, pem: &[u8], hostname: &str) -> bool {
        let info = self.request_info(hostname);
        CertificateSigningRequestDer::from_pem_slice(pem)
            .is_ok_and(|request| request.windows(info.len()).any(|part| part == info))
    }

    /// Returns the signed part of a certificate request.
    fn request_info(&self, hostname: &str) -> Vec<u8> {
        let name: String = hostname.chars().take(COMMON_NAME).collect();
        let name = der(UTF8_STRING, &[name.as_bytes()]);
        let name = der(SEQUENCE, &[ID_COMMON_NAME, &name]);
        let subject = der(SEQUENCE, &[&der(SET, &[&name])]);
        der(
            SEQUENCE,
            &[VERSION_0, &subject, &self.public(), NO_ATTRIBUTES],
        )
    }
}

/// Encodes a value in DER: tag, length, content (X.690, section 8.1).
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut encoded = vec![tag];
    if content.len() < 0x80 {
        encoded.push(content.len().to_le_bytes()[0]);
    } else {
        encoded.push(0x80 | significant.len().to_le_bytes()[0]);
        encoded.extend_from_slice(significant);
    }
    encoded.extend_from_slice(&content);
    encoded
}

/// Encodes bytes in PEM.
fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    // The text never grows, so that it leaves no copy of a key behind.
    let mut text = Zeroizing::new(String::with_capacity(base64.len() * 2 + 128));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for (index, character) in base64.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str("\n-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use rcgen::{CertificateSigningRequestParams, DnType, PublicKeyData};

    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let key = HostKey::make().unwrap();
        let again = HostKey::from_pem(key.to_pem().as_bytes()).unwrap();
        assert_eq!(key.public(), again.public());
        let theirs = rcgen::KeyPair::from_pem(&key.to_pem()).unwrap();
        assert_eq!(key.public(), theirs.subject_public_key_info());
        assert_ne!(key.public(), HostKey::make().unwrap().public());
        for other in [
            "",
            "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n",
        ] {
            assert!(HostKey::from_pem(other.as_bytes()).is_none());
        }
    }

    #[test]
    fn a_request_is_read_and_verified_by_others() {
        let key = HostKey::make().unwrap();
        for (hostname, subject) in [
            ("web-1", "web-1".to_owned()),
            ("", String::new()),
            ("rechner-ä", "rechner-ä".to_owned()),
            // Long enough for lengths of two bytes all over.
            (&"ä".repeat(200), "ä".repeat(64)),
        ] {
            let request = key.request(hostname).unwrap();
            let read = CertificateSigningRequestParams::from_pem(&request).unwrap();
            assert_eq!(read.public_key.subject_public_key_info(), key.public());
            let name = read.params.distinguished_name.get(&DnType::CommonName);
            assert_eq!(name, Some(&subject.as_str().into()), "{hostname}");
            let said = openssl(&["req", "-verify", "-noout", "-text"], &request);
            assert!(said.contains("NIST CURVE: P-256"), "{said}");
            assert!(said.contains("verify OK"), "{said}");
            assert!(key.has_made(request.as_bytes(), hostname));
            assert!(!key.has_made(request.as_bytes(), "other"));
            let other = HostKey::make().unwrap();
            assert!(!other.has_made(request.as_bytes(), hostname));
            assert!(!key.has_made(&request.as_bytes()[..99], hostname));
        }
    }

    /// Returns the output of openssl for `input`, of both streams. Fails when openssl fails.
    fn openssl(arguments: &[&str], input: &str) -> String {
        let mut child = Command::new("openssl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl is installed");
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(output.status.success(), "{said}");
        said
    }
}
