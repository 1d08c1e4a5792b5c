//! The CA of Mimir's client certificates: it signs them, and verifies them in TLS.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub::Error;
use hub::ca::{Ca, Failure};
use hub::clock::Millis;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose,
    PublicKeyData,
};
use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use time::OffsetDateTime;

/// The CA of client certificates, which is not the CA of the hub's own certificate.
pub(crate) struct ClientCa {
    ca: Ca,
    pem: String,
}

impl ClientCa {
    /// Loads the CA from `dir`, or makes it there. Without a directory the CA is in memory alone.
    pub(crate) fn prepare(dir: Option<&Path>) -> Result<Self, Error> {
        const NAME: &str = "mock hub agents CA";
        let ca = match dir {
            Some(dir) => {
                Ca::load_or_make(dir, "client-ca", NAME).map_err(|cause| cause.in_dir(dir))?
            }
            None => Ca::make(NAME).map_err(failed)?,
        };
        let pem = pem(ca.certificate());
        Ok(Self { ca, pem })
    }

    /// Returns the CA's certificate in PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns the verifier of clients: they present a certificate of this CA, or none.
    pub(crate) fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let build = || -> Result<Arc<dyn ClientCertVerifier>, Failure> {
            let mut roots = RootCertStore::empty();
            roots.add(self.ca.certificate().clone())?;
            let provider = Arc::new(default_provider());
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            Ok(builder.allow_unauthenticated().build()?)
        };
        build().map_err(failed)
    }

    /// Issues a certificate in PEM by which the holder of the key proves to be `name`.
    pub(crate) fn issue(
        &self,
        name: &str,
        key: &impl PublicKeyData,
        valid: &Range<Millis>,
    ) -> Result<String, Failure> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = OffsetDateTime::from_unix_timestamp(valid.start / 1000)?;
        params.not_after = OffsetDateTime::from_unix_timestamp(valid.end / 1000)?;
        Ok(pem(params.signed_by(key, &self.ca.issuer())?.der()))
    }
}

fn failed(cause: Failure) -> Error {
    Error::new(
        "preparing the CA of the agents",
        cause,
        "start the hub again",
    )
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let base64 = STANDARD.encode(certificate);
    let lines: Vec<&str> = base64
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}
