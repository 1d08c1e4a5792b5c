//! The choice of the trusted certificates: for the hub only the CA of the settings, or a pinned CA, or the
//! built-in Mozilla roots and then the system's store; for an https proxy always the last two.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error as TlsError, OtherError, RootCertStore,
    SignatureScheme,
};

use super::{spki_pin, system_store};
use crate::settings::{CaPin, Settings};
use crate::tls_words;

/// Verifies a chain. It chooses the trust anchors, and webpki does the rest.
#[derive(Debug)]
pub(super) struct Verifier {
    /// The CA file of the settings.
    ca_store: Option<RootCertStore>,
    pin: Option<CaPin>,
    /// The host of an https proxy, if it is not the hub's too.
    proxy: Option<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
    builtin: OnceLock<RootCertStore>,
    system: OnceLock<RootCertStore>,
}

/// The chain that a server presents, and what it has to be valid for.
struct Presented<'a> {
    end_entity: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    name: &'a ServerName<'a>,
    now: UnixTime,
}

impl Verifier {
    pub(super) fn new(
        settings: &Settings,
        ca_anchors: Option<Vec<TrustAnchor<'static>>>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        let name = |host: &str| ServerName::try_from(host.to_owned()).ok();
        let proxy = settings
            .proxy_in_use()
            .map(|proxy| &proxy.value.url)
            .filter(|url| url.scheme() == "https")
            .and_then(|url| name(url.host_str()?.trim_matches(['[', ']'])))
            // One name for both could be either, and the hub's trust is the stricter one.
            .filter(|proxy| name(settings.hub_url.value.host()).as_ref() != Some(proxy));
        Self {
            ca_store: ca_anchors.map(|roots| RootCertStore { roots }),
            pin: settings.ca_pin.as_ref().map(|pin| pin.value),
            proxy,
            provider,
            builtin: OnceLock::new(),
            system: OnceLock::new(),
        }
    }

    /// Verifies with the anchors of `store`. A server's own certificate that is an anchor itself needs no chain, and
    /// may be that of a CA: openssl req -x509 makes such certificates. Name, time and handshake are verified all the
    /// same; webpki verifies the time before it verifies the kind and looks for an issuer.
    fn verify(&self, store: &RootCertStore, presented: &Presented<'_>) -> Result<(), TlsError> {
        let certificate = ParsedCertificate::try_from(presented.end_entity)?;
        let verified = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            store,
            presented.intermediates,
            presented.now,
            self.provider.signature_verification_algorithms.all,
        );
        match verified {
            Err(error) if is_ca(&error) || error == CertificateError::UnknownIssuer.into() => {
                let own = anchor(presented.end_entity);
                if !own.is_some_and(|own| store.roots.contains(&own)) {
                    return Err(error);
                }
            }
            verified => verified?,
        }
        verify_server_name(&certificate, presented.name)
    }

    /// Verifies with the built-in roots, and with the system's store if they do not do. One valid path is enough
    /// (RFC 4158): a root that has replaced an expired one may be in one of the two only. Reading the store costs
    /// milliseconds and a thousand system calls, so it is read only then.
    fn verify_public(&self, presented: &Presented<'_>) -> Result<(), TlsError> {
        let builtin = self.builtin.get_or_init(|| RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        });
        let Err(first) = self.verify(builtin, presented) else {
            return Ok(());
        };
        let system = self.system.get_or_init(|| {
            let roots = system_store::roots();
            tracing::debug!("{} CA certificates in the system's store", roots.len());
            RootCertStore { roots }
        });
        match self.verify(system, presented) {
            Ok(()) => Ok(()),
            // A store that knows the CA says more, and the name comes last of all.
            Err(second) if first == CertificateError::UnknownIssuer.into() || is_name(&second) => {
                Err(second)
            }
            Err(_) => Err(first),
        }
    }

    /// Returns the anchors that have the pinned key: from the CA file of the settings, or else from the
    /// certificates that the hub sent and the built-in roots.
    fn pinned(&self, pin: CaPin, presented: &Presented<'_>) -> Result<RootCertStore, TlsError> {
        let known = match &self.ca_store {
            Some(store) => store.roots.clone(),
            None => std::iter::once(presented.end_entity)
                .chain(presented.intermediates)
                .filter_map(anchor)
                .chain(webpki_roots::TLS_SERVER_ROOTS.iter().cloned())
                .collect(),
        };
        let roots: Vec<_> = known
            .into_iter()
            .filter(|anchor| spki_pin(anchor) == pin)
            .collect();
        if roots.is_empty() {
            return Err(TlsError::InvalidCertificate(CertificateError::Other(
                OtherError(Arc::new(PinMismatch)),
            )));
        }
        Ok(RootCertStore { roots })
    }

    fn verify_hub(&self, presented: &Presented<'_>) -> Result<(), TlsError> {
        match (self.pin, &self.ca_store) {
            (Some(pin), _) => self.verify(&self.pinned(pin, presented)?, presented),
            (None, Some(store)) => self.verify(store, presented),
            (None, None) => self.verify_public(presented),
        }
    }
}

fn anchor(certificate: &CertificateDer<'_>) -> Option<TrustAnchor<'static>> {
    let anchor = webpki::anchor_from_trusted_cert(certificate).ok()?;
    Some(anchor.to_owned())
}

fn is_ca(error: &TlsError) -> bool {
    matches!(
        error,
        TlsError::InvalidCertificate(CertificateError::Other(OtherError(inner)))
            if matches!(inner.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
    )
}

fn is_name(error: &TlsError) -> bool {
    matches!(
        error,
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        )
    )
}

/// The error that no certificate has the pinned key.
#[derive(Debug)]
pub(in crate::hub) struct PinMismatch;

impl fmt::Display for PinMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no CA of the chain has the pinned key")
    }
}

impl std::error::Error for PinMismatch {}

/// The error of a proxy's certificate.
#[derive(Debug)]
pub(in crate::hub) struct ProxyRefused(pub(in crate::hub) CertificateError);

impl fmt::Display for ProxyRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = tls_words::certificate(&self.0);
        write!(f, "the proxy's certificate is not trusted: {cause}")
    }
}

impl std::error::Error for ProxyRefused {}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let presented = Presented {
            end_entity,
            intermediates,
            name,
            now,
        };
        let verified = if self.proxy.as_ref().is_some_and(|proxy| proxy == name) {
            self.verify_public(&presented).map_err(|error| match error {
                TlsError::InvalidCertificate(error) => TlsError::InvalidCertificate(
                    CertificateError::Other(OtherError(Arc::new(ProxyRefused(error)))),
                ),
                error => error,
            })
        } else {
            self.verify_hub(&presented)
        };
        verified.map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
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
    ) -> Result<HandshakeSignatureValid, TlsError> {
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
