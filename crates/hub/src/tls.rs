//! The hub's certificate authority, and the certificate that the hub serves with.

use crate::ca::{Ca, Failure, load_or_make_key, write};
use crate::error::Error;
use crate::secret::sha256;
use data_encoding::HEXLOWER;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// The TLS side of the hub: its certificate, and the CA that clients verify it with.
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
    /// Loads CA and certificate from `dir`, and makes those that do not exist or are no longer valid.
    /// Without a directory both are new, in a temporary one.
    ///
    /// `clients` verifies the certificates of clients; without it no client needs one.
    pub(crate) fn prepare(
        dir: Option<&Path>,
        listen: IpAddr,
        clients: Option<Arc<dyn ClientCertVerifier>>,
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
        .map_err(|cause| {
            Error::new(
                "making a directory for the CA",
                cause,
                "set TMPDIR to a directory that this user may write",
            )
        })
}

/// The hub's certificate chain and key.
struct Identity {
    ca_pin: String,
    /// The leaf, and the CA after it: a client that knows only the CA's pin needs to see the CA.
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn load_or_make(dir: &Path, listen: IpAddr) -> Result<Self, Failure> {
        let ca = Ca::load_or_make(dir, "ca", "mock hub CA")?;
        let ca_pin = format!("sha256:{}", HEXLOWER.encode(&sha256(&ca.public_key())));

        let leaf_pem = dir.join("leaf.pem");
        let leaf_key = load_or_make_key(&dir.join("leaf.key"))?;
        let certificate = ca.certificate().clone();
        if !is_valid(&leaf_pem, &certificate, listen)? {
            let leaf = leaf_params(listen)?.signed_by(&leaf_key, &ca.issuer())?;
            write(&leaf_pem, &leaf.pem(), 0o644)?;
        }
        Ok(Self {
            ca_pin,
            chain: vec![CertificateDer::from_pem_file(&leaf_pem)?, certificate],
            key: PrivateKeyDer::try_from(leaf_key.serialize_der()).map_err(Failure::new)?,
        })
    }
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

/// Returns whether a leaf from disk still verifies by this CA and for this address.
fn is_valid(leaf: &Path, ca: &CertificateDer<'_>, listen: IpAddr) -> Result<bool, Failure> {
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
    Ok(verifier
        .verify_server_cert(&leaf, &[], &name, &[], UnixTime::now())
        .is_ok())
}

fn server_config(
    identity: &Identity,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, Failure> {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let builder = match clients {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
