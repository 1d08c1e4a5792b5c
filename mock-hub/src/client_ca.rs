//! The CA of the certificates that agents show: whom it signs for, and how TLS knows them again.

use crate::clock::Millis;
use crate::error::Error;
use crate::tls::{Ca, Failure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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

/// Another CA than the one that the hub itself is known by.
pub(crate) struct ClientCa {
    ca: Ca,
    pem: String,
}

impl ClientCa {
    /// Takes the CA from `dir`, making it if it is not there. Without a directory nothing keeps it.
    pub(crate) fn prepare(dir: Option<&Path>) -> Result<Self, Error> {
        const NAME: &str = "mock hub agents CA";
        let ca = match dir {
            Some(dir) => {
                Ca::load_or_make(dir, "client-ca", NAME).map_err(|cause| cause.in_dir(dir))?
            }
            None => Ca::make(NAME).map_err(|cause| {
                Error::new("making the CA of the agents", cause.0, "Start again.")
            })?,
        };
        let pem = pem(&ca.certificate);
        Ok(Self { ca, pem })
    }

    /// Its certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// What TLS asks: a certificate of this CA, or none.
    pub(crate) fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.certificate.clone())?;
        let provider = Arc::new(default_provider());
        Ok(
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()?,
        )
    }

    /// A certificate by which the holder of the key proves to be `name`, in PEM.
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
