//! The hub's own certificate authority, and the certificate that it serves with.

use crate::client_ca::ClientCa;
use crate::error::Error;
use crate::secret::sha256;
use data_encoding::HEXLOWER;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// How the hub proves who it is.
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// The CA's certificate, for hosts to verify with.
    pub(crate) ca_file: PathBuf,
    /// `sha256:` and the hash of the CA's public key (SPKI DER), for hosts to pin.
    pub(crate) ca_pin: String,
    /// Removed with all its content when dropped.
    _temporary: Option<TempDir>,
}

impl Tls {
    /// Takes CA and certificate from `dir`, making what is not there or no longer good. Without
    /// a directory all is made anew, in a temporary one.
    ///
    /// Who shows a certificate must have it from `clients`; nobody has to show one.
    pub(crate) fn prepare(
        dir: Option<&Path>,
        listen: IpAddr,
        clients: &ClientCa,
    ) -> Result<Self, Error> {
        let (dir, temporary) = if let Some(dir) = dir {
            (dir.to_owned(), None)
        } else {
            let made = temporary_dir()?;
            (made.path().to_owned(), Some(made))
        };
        let failed = |cause: Failure| cause.in_dir(&dir);
        let identity = Identity::load_or_make(&dir, listen).map_err(failed)?;
        let config = server_config(&identity, clients).map_err(failed)?;
        let ca_file = dir.join("ca.pem");
        Ok(Self {
            config: Arc::new(config),
            ca_file: ca_file.canonicalize().unwrap_or(ca_file),
            ca_pin: identity.ca_pin,
            _temporary: temporary,
        })
    }
}

fn temporary_dir() -> Result<TempDir, Error> {
    tempfile::Builder::new()
        .prefix("mock-hub-")
        .tempdir()
        .map_err(|cause| Error::new("making a directory for the CA", cause, "Check TMPDIR."))
}

/// Anything that goes wrong with keys and certificates, already in words.
pub(crate) struct Failure(pub(crate) String);

impl Failure {
    pub(crate) fn in_dir(self, dir: &Path) -> Error {
        let next = "Give --tls-dir a directory that this user may write, and whose keys and \
                    certificates are a mock hub's or not there yet.";
        Error::new(format!("preparing TLS in {}", dir.display()), self.0, next)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(cause: E) -> Self {
        Self(cause.to_string())
    }
}

struct Identity {
    ca_pin: String,
    /// The leaf, and the CA after it: who knows only the CA's pin needs to see the CA.
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn load_or_make(dir: &Path, listen: IpAddr) -> Result<Self, Failure> {
        let ca = Ca::load_or_make(dir, "ca", "mock hub CA")?;
        let public_key = ca.key.subject_public_key_info();
        let ca_pin = format!("sha256:{}", HEXLOWER.encode(&sha256(&public_key)));

        let leaf_pem = dir.join("leaf.pem");
        let leaf_key = load_or_make_key(&dir.join("leaf.key"))?;
        let certificate = ca.certificate.clone();
        if !is_good(&leaf_pem, &certificate, listen)? {
            let leaf = leaf_params(listen)?.signed_by(&leaf_key, &ca.issuer())?;
            write(&leaf_pem, &leaf.pem(), 0o644)?;
        }
        Ok(Self {
            ca_pin,
            chain: vec![CertificateDer::from_pem_file(&leaf_pem)?, certificate],
            key: PrivateKeyDer::try_from(leaf_key.serialize_der())
                .map_err(|cause| Failure(cause.to_owned()))?,
        })
    }
}

/// A CA of the hub's own: a key, and the certificate that it has signed itself.
pub(crate) struct Ca {
    pub(crate) certificate: CertificateDer<'static>,
    key: KeyPair,
    params: CertificateParams,
}

impl Ca {
    /// One that nothing keeps.
    pub(crate) fn make(name: &str) -> Result<Self, Failure> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let params = ca_params(&key, name);
        Ok(Self {
            certificate: params.self_signed(&key)?.der().clone(),
            key,
            params,
        })
    }

    /// The one of `STEM.pem` and `STEM.key`, made there unless it is.
    pub(crate) fn load_or_make(dir: &Path, stem: &str, name: &str) -> Result<Self, Failure> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let key_file = dir.join(format!("{stem}.key"));
        let pem_file = dir.join(format!("{stem}.pem"));
        if pem_file.exists() && !key_file.exists() {
            return Err(Failure(format!(
                "{stem}.pem is there without its {stem}.key"
            )));
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

    pub(crate) fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

/// Follows from the key alone, so that a kept CA signs under the name it was made with.
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

fn leaf_params(listen: IpAddr) -> Result<CertificateParams, Failure> {
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    let listen = listen.to_string();
    if !names.contains(&listen) {
        names.push(listen);
    }
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "mock hub");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    Ok(params)
}

/// Whether a kept leaf still stands for this CA and this address.
fn is_good(leaf: &Path, ca: &CertificateDer<'_>, listen: IpAddr) -> Result<bool, Failure> {
    if !leaf.exists() {
        return Ok(false);
    }
    let leaf = CertificateDer::from_pem_file(leaf)?;
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone().into_owned())?;
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
            .build()?;
    let name = ServerName::IpAddress(listen.into());
    let verdict = verifier.verify_server_cert(&leaf, &[], &name, &[], UnixTime::now());
    Ok(verdict.is_ok())
}

fn server_config(identity: &Identity, clients: &ClientCa) -> Result<ServerConfig, Failure> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(clients.verifier()?)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn load_or_make_key(path: &Path) -> Result<KeyPair, Failure> {
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

fn write(path: &Path, pem: &str, mode: u32) -> Result<(), Failure> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(pem.as_bytes()))
        .map_err(|cause| Failure(format!("{}: {cause}", path.display())))
}
