//! The trusted certificates: only the CA of the settings, or a pinned CA, or the built-in Mozilla roots and
//! then the system's store.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, KeyProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor, UnixTime};
use rustls::sign::SigningKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, OtherError,
    RootCertStore, SignatureScheme,
};

use crate::error::{Error, ErrorId, Result};
use crate::settings::{CaPin, Settings};

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
    let provider = Arc::new(CryptoProvider {
        key_provider: &EcdsaKeys,
        ..rustls::crypto::ring::default_provider()
    });
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
    let verifier = Verifier {
        ca_anchors,
        pin: settings.ca_pin.as_ref().map(|pin| pin.value),
        provider: Arc::clone(&provider),
        builtin: OnceLock::new(),
        system: OnceLock::new(),
    };
    let internal = |error: TlsError| Error::new(ErrorId::Internal, error.to_string()).about("TLS");
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

/// Loads ECDSA keys only: the certificates of hosts are for such keys, and the RSA code is not linked.
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
pub fn anchors_in(pem: &[u8]) -> std::result::Result<Vec<TrustAnchor<'static>>, &'static str> {
    const BROKEN: &str = "it holds an invalid certificate";
    let mut anchors = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| BROKEN)?;
        anchors.push(anchor(&certificate).ok_or(BROKEN)?);
    }
    if anchors.is_empty() {
        return Err("it holds no PEM certificate (-----BEGIN CERTIFICATE-----)");
    }
    Ok(anchors)
}

fn anchor(certificate: &CertificateDer<'_>) -> Option<TrustAnchor<'static>> {
    let anchor = webpki::anchor_from_trusted_cert(certificate).ok()?;
    Some(anchor.to_owned())
}

/// Verifies a chain. It chooses the trust anchors, and rustls' own verifier does the rest.
#[derive(Debug)]
struct Verifier {
    /// The CA file of the settings.
    ca_anchors: Option<Vec<TrustAnchor<'static>>>,
    pin: Option<CaPin>,
    provider: Arc<CryptoProvider>,
    builtin: OnceLock<Arc<WebPkiServerVerifier>>,
    system: OnceLock<Option<Arc<WebPkiServerVerifier>>>,
}

impl Verifier {
    fn with(
        &self,
        anchors: Vec<TrustAnchor<'static>>,
    ) -> std::result::Result<Arc<WebPkiServerVerifier>, TlsError> {
        let store = Arc::new(RootCertStore { roots: anchors });
        WebPkiServerVerifier::builder_with_provider(store, Arc::clone(&self.provider))
            .build()
            .map_err(|error| TlsError::General(error.to_string()))
    }

    fn builtin(&self) -> std::result::Result<&Arc<WebPkiServerVerifier>, TlsError> {
        if let Some(verifier) = self.builtin.get() {
            return Ok(verifier);
        }
        let verifier = self.with(webpki_roots::TLS_SERVER_ROOTS.to_vec())?;
        Ok(self.builtin.get_or_init(|| verifier))
    }

    /// Returns the verifier with the system's store. Reading the store costs milliseconds and a thousand
    /// system calls, so it is read only when the built-in roots do not know the chain.
    fn system(&self) -> Option<&Arc<WebPkiServerVerifier>> {
        self.system
            .get_or_init(|| {
                let found = rustls_native_certs::load_native_certs();
                let anchors: Vec<_> = found.certs.iter().filter_map(anchor).collect();
                tracing::debug!("{} CA certificates in the system's store", anchors.len());
                (!anchors.is_empty())
                    .then(|| self.with(anchors).ok())
                    .flatten()
            })
            .as_ref()
    }

    /// Returns the verifier with the anchors that have the pinned key: from the CA file of the settings, or
    /// else from the certificates that the hub sent and the built-in roots.
    fn pinned(
        &self,
        pin: CaPin,
        intermediates: &[CertificateDer<'_>],
    ) -> std::result::Result<Arc<WebPkiServerVerifier>, TlsError> {
        let known = match &self.ca_anchors {
            Some(anchors) => anchors.clone(),
            None => intermediates
                .iter()
                .filter_map(anchor)
                .chain(webpki_roots::TLS_SERVER_ROOTS.iter().cloned())
                .collect(),
        };
        let anchors: Vec<_> = known
            .into_iter()
            .filter(|anchor| spki_pin(anchor) == pin)
            .collect();
        if anchors.is_empty() {
            return Err(TlsError::InvalidCertificate(CertificateError::Other(
                OtherError(Arc::new(PinMismatch)),
            )));
        }
        self.with(anchors)
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

/// The error that no certificate has the pinned key.
#[derive(Debug)]
pub(super) struct PinMismatch;

impl std::fmt::Display for PinMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no CA of the chain has the pinned key")
    }
}

impl std::error::Error for PinMismatch {}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        let verify = |verifier: &WebPkiServerVerifier| {
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp, now)
        };
        if let Some(pin) = self.pin {
            return verify(&*self.pinned(pin, intermediates)?);
        }
        if let Some(anchors) = &self.ca_anchors {
            return verify(&*self.with(anchors.clone())?);
        }
        match verify(self.builtin()?) {
            Err(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {}
            verified => return verified,
        }
        match self.system() {
            Some(system) => verify(system),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
