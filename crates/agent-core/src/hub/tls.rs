//! The configuration of TLS: versions, the trusted certificates, and the certificate of the host.

mod system_store;
mod verifier;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, KeyProvider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor};
use rustls::sign::SigningKey;
use rustls::{ClientConfig, Error as TlsError};

use crate::error::{Error, ErrorId, Result};
use crate::pem;
use crate::settings::{CaPin, Settings};
use crate::tls_words;
use verifier::Verifier;
pub(super) use verifier::{PinMismatch, ProxyRefused};

/// The trust in the hub's certificate, for the hint of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// The built-in roots and the system's store.
    Public,
    /// The CA file of the settings.
    CaFile,
    /// A pinned CA, with or without a CA file.
    Pin,
}

impl Trust {
    pub(super) const fn of(settings: &Settings) -> Self {
        match (&settings.ca_file, &settings.ca_pin) {
            (_, Some(_)) => Self::Pin,
            (Some(_), None) => Self::CaFile,
            (None, None) => Self::Public,
        }
    }
}

/// A certificate of the host, and its private key.
pub struct Proof {
    /// The certificate, followed by its intermediate certificates.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
}

/// Builds the configuration of TLS 1.2 and 1.3 for one hub, with `proof` as the client certificate. With
/// `lasts`, the configuration is for the service, which builds a new one each time that it reads its settings.
///
/// # Errors
/// [`ErrorId::Unreadable`] or [`ErrorId::BadSetting`] for the CA file.
pub(super) fn configuration(
    settings: &Settings,
    proof: Option<Proof>,
    lasts: bool,
) -> Result<ClientConfig> {
    let provider = Arc::new(provider());
    let ca_anchors =
        match &settings.ca_file {
            Some(ca_file) => {
                let bytes = if lasts {
                    ca_file.read_regular()?
                } else {
                    ca_file.read(settings.wait.value)?
                };
                Some(anchors_in(&bytes).map_err(|cause| {
                    Error::new(ErrorId::BadSetting, cause).about(ca_file.subject())
                })?)
            }
            None => None,
        };
    let verifier = Verifier::new(settings, ca_anchors, Arc::clone(&provider));
    let internal =
        |error: TlsError| Error::new(ErrorId::Internal, tls_words::tls(&error)).about("TLS");
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(internal)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match proof {
        Some(Proof { chain, key }) => builder.with_client_auth_cert(chain, key).map_err(internal),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// Returns the algorithms of TLS. Nothing else of the agent calls rustls' `default_provider`, whose keys are of
/// every kind: so the linker drops the code that signs with RSA.
#[expect(clippy::disallowed_methods, reason = "without its keys")]
#[must_use]
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        key_provider: &EcdsaKeys,
        ..rustls::crypto::ring::default_provider()
    }
}

/// Loads ECDSA keys only: the certificates of hosts are for such keys.
#[derive(Debug)]
struct EcdsaKeys;

impl KeyProvider for EcdsaKeys {
    fn load_private_key(
        &self,
        key: PrivateKeyDer<'static>,
    ) -> std::result::Result<Arc<dyn SigningKey>, TlsError> {
        rustls::crypto::ring::sign::any_ecdsa_type(&key)
    }
}

/// Returns the trust anchors in a PEM file.
///
/// # Errors
/// The reason why the file is not usable.
pub fn anchors_in(file: &[u8]) -> std::result::Result<Vec<TrustAnchor<'static>>, String> {
    pem::certificates(file)?.iter().map(anchor).collect()
}

fn anchor(found: &pem::Found) -> std::result::Result<TrustAnchor<'static>, String> {
    match webpki::anchor_from_trusted_cert(&found.certificate) {
        Ok(anchor) => Ok(anchor.to_owned()),
        Err(error) => {
            let reason = format!("is broken: {}", tls_words::webpki(&error));
            Err(found.place.invalid(&reason))
        }
    }
}

/// Returns the SHA-256 of the complete `SubjectPublicKeyInfo`. An anchor has it without its outer header.
#[must_use]
pub fn spki_pin(anchor: &TrustAnchor<'_>) -> CaPin {
    let content = anchor.subject_public_key_info.as_ref();
    let mut hasher = ring::digest::Context::new(&ring::digest::SHA256);
    hasher.update(&[0x30]);
    let length = content.len().to_be_bytes();
    if content.len() < 0x80 {
        hasher.update(&length[length.len() - 1..]);
    } else {
        let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
        hasher.update(&[0x80 | u8::try_from(significant.len()).unwrap_or_default()]);
        hasher.update(significant);
    }
    hasher.update(content);
    let mut pin = [0; 32];
    pin.copy_from_slice(hasher.finish().as_ref());
    CaPin(pin)
}
