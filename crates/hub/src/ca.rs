//! Certificate authorities, in memory or in a directory.

use crate::error::Error;
use crate::secret::sha256;
use data_encoding::HEXLOWER;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::ParsedCertificate;
use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// A certificate authority: a key, and the certificate that the key has signed itself.
pub struct Ca {
    certificate: CertificateDer<'static>,
    key: KeyPair,
    params: CertificateParams,
}

impl Ca {
    /// Makes a CA in memory alone.
    pub fn make(name: &str) -> Result<Self, Failure> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let params = ca_params(&key, name);
        Ok(Self {
            certificate: params.self_signed(&key)?.der().clone(),
            key,
            params,
        })
    }

    /// Loads the CA of `STEM.pem` and `STEM.key` in `dir`; makes the files that do not exist.
    pub fn load_or_make(dir: &Path, stem: &str, name: &str) -> Result<Self, Failure> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let key_file = dir.join(format!("{stem}.key"));
        let pem_file = dir.join(format!("{stem}.pem"));
        if pem_file.exists() && !key_file.exists() {
            return Err(Failure(format!("{stem}.pem exists without its {stem}.key")));
        }
        let key = load_or_make_key(&key_file)?;
        let params = ca_params(&key, name);
        if !pem_file.exists() {
            write(&pem_file, &params.self_signed(&key)?.pem(), 0o644)?;
        }
        let certificate = CertificateDer::from_pem_file(&pem_file)?;
        let certified = ParsedCertificate::try_from(&certificate)?.subject_public_key_info();
        if certified.as_ref() != key.subject_public_key_info() {
            return Err(Failure(format!(
                "{stem}.pem and {stem}.key do not belong together"
            )));
        }
        Ok(Self {
            certificate,
            key,
            params,
        })
    }

    /// Returns the certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Returns the public key (SPKI DER).
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }

    /// Returns the issuer to sign other certificates with.
    #[must_use]
    pub fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

/// Derives all from key and name, so that a CA from disk signs under the name it was made with.
fn ca_params(key: &KeyPair, name: &str) -> CertificateParams {
    let fingerprint = HEXLOWER.encode(&sha256(&key.subject_public_key_info())[..4]);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{name} {fingerprint}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params
}

/// The failure to load or make keys and certificates, in words.
pub struct Failure(String);

impl Failure {
    /// Makes a failure of these words.
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }

    /// Turns the failure into an error that names the directory and the flag for it.
    #[must_use]
    pub fn in_dir(self, dir: &Path) -> Error {
        let hint = "give --tls-dir a directory that this user may write; its keys and certificates \
                    are a mock hub's, or do not exist yet";
        Error::new(format!("preparing TLS in {}", dir.display()), self, hint)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(cause: E) -> Self {
        Self(cause.to_string())
    }
}

/// Loads the private key of the file, or makes one there.
pub(crate) fn load_or_make_key(path: &Path) -> Result<KeyPair, Failure> {
    match fs::read_to_string(path) {
        Ok(pem) => Ok(KeyPair::from_pem(&pem)?),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
            write(path, &key.serialize_pem(), 0o600)?;
            Ok(key)
        }
        Err(cause) => Err(Failure(format!("{}: {cause}", path.display()))),
    }
}

/// Writes a PEM file with this mode.
pub(crate) fn write(path: &Path, pem: &str, mode: u32) -> Result<(), Failure> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(pem.as_bytes()))
        .map_err(|cause| Failure(format!("{}: {cause}", path.display())))
}
