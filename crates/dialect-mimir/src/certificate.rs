//! A client certificate: what it must be before it is kept, and until when it is good.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use agent_core::clock;

/// The certificate, and those between it and its CA.
#[derive(Debug)]
pub(crate) struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    from: Duration,
    until: Duration,
}

impl Certificate {
    /// Reads a PEM file: the certificate first, then the chain if there is one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let chain = read(pem)?;
        let (from, until) = dates(leaf(&chain)?)?;
        Ok(Self { chain, from, until })
    }

    /// As TLS shows it.
    #[must_use]
    pub(crate) fn for_tls(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    /// Whether it is a certificate of this public key (`SubjectPublicKeyInfo`, DER).
    #[must_use]
    pub(crate) fn is_for(&self, public: &[u8]) -> bool {
        leaf(&self.chain)
            .and_then(parsed)
            .is_ok_and(|leaf| leaf.subject_public_key_info().as_ref() == public)
    }

    /// Checks all that a certificate must be before it is kept: of this key, from a CA of `ca_pem`,
    /// good for clients, and good at `now`.
    ///
    /// # Errors
    /// What it is not.
    pub(crate) fn check(
        &self,
        public: &[u8],
        ca_pem: &[u8],
        now: SystemTime,
    ) -> Result<(), String> {
        if !self.is_for(public) {
            return Err("the certificate is for another key than this host's".into());
        }
        let cas = read(ca_pem).map_err(|cause| format!("ca_pem: {cause}"))?;
        let anchors: Vec<TrustAnchor<'_>> = cas
            .iter()
            .map(|ca| anchor_from_trusted_cert(ca))
            .collect::<Result<_, _>>()
            .map_err(|cause| format!("ca_pem holds a broken certificate: {cause}"))?;
        verify(&self.chain, &anchors, since_1970(now)).map_err(|cause| match cause {
            webpki::Error::CertExpired { .. } => format!(
                "the certificate expired at {}, and this host's clock says {}",
                told(self.until),
                told(since_1970(now))
            ),
            webpki::Error::CertNotValidYet { .. } => format!(
                "the certificate is valid from {}, and this host's clock says {}",
                told(self.from),
                told(since_1970(now))
            ),
            webpki::Error::UnknownIssuer => {
                "the certificate does not come from the CA that came with it".into()
            }
            webpki::Error::RequiredEkuNotFoundContext(_) => {
                "the certificate is not meant for clients".into()
            }
            cause => format!("the certificate is not good: {cause}"),
        })
    }

    /// Until when it is good.
    #[must_use]
    pub(crate) fn expires_at(&self) -> SystemTime {
        clock::of_1970(self.until)
    }

    /// When it is to be renewed: two thirds of its life are over.
    #[must_use]
    pub(crate) fn renew_at(&self) -> SystemTime {
        // Before it is multiplied, it is divided: no date that a certificate can hold overflows.
        let life = self.until.saturating_sub(self.from);
        clock::of_1970(self.from.saturating_add(life / 3 * 2))
    }
}

fn read(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| "it is no PEM")?;
    if certificates.is_empty() {
        return Err("there is no certificate in it (-----BEGIN CERTIFICATE-----)".into());
    }
    Ok(certificates)
}

fn leaf<'a>(chain: &'a [CertificateDer<'static>]) -> Result<&'a CertificateDer<'static>, String> {
    chain
        .first()
        .ok_or_else(|| "there is no certificate".into())
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Result<EndEntityCert<'a>, String> {
    EndEntityCert::try_from(certificate)
        .map_err(|cause| format!("it holds a broken certificate: {cause}"))
}

fn verify(
    chain: &[CertificateDer<'static>],
    anchors: &[TrustAnchor<'_>],
    at: Duration,
) -> Result<(), webpki::Error> {
    let (leaf, between) = chain.split_first().ok_or(webpki::Error::BadDer)?;
    EndEntityCert::try_from(leaf)?
        .verify_for_usage(
            default_provider().signature_verification_algorithms.all,
            anchors,
            between,
            UnixTime::since_unix_epoch(at),
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map(|_| ())
}

/// From when until when, since 1970. The verifier looks at the time first, and says by which of the
/// two dates a time is a wrong one.
fn dates(certificate: &CertificateDer<'static>) -> Result<(Duration, Duration), String> {
    parsed(certificate)?;
    let chain = std::slice::from_ref(certificate);
    let at = |time| verify(chain, &[], time);
    match (at(Duration::ZERO), at(Duration::from_secs(u64::MAX))) {
        (
            Err(webpki::Error::CertNotValidYet { not_before, .. }),
            Err(webpki::Error::CertExpired { not_after, .. }),
        ) => Ok((
            Duration::from_secs(not_before.as_secs()),
            Duration::from_secs(not_after.as_secs()),
        )),
        _ => Err("it holds a certificate whose dates cannot be told".into()),
    }
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn told(since_1970: Duration) -> String {
    clock::rfc3339(clock::of_1970(since_1970))
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
        KeyPair, date_time_ymd,
    };

    use super::*;
    use crate::key::HostKey;

    struct Authority {
        params: CertificateParams,
        key: KeyPair,
    }

    impl Authority {
        fn new(name: &str) -> Self {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            Self { params, key }
        }

        fn issuer(&self) -> Issuer<'_, &KeyPair> {
            Issuer::from_params(&self.params, &self.key)
        }

        fn pem(&self) -> String {
            self.params.self_signed(&self.key).unwrap().pem()
        }

        fn below(&self, other: &Self) -> String {
            let signed = self.params.signed_by(&self.key, &other.issuer());
            signed.unwrap().pem()
        }

        /// A certificate of 2030 for the host's key.
        fn certify(&self, host: &HostKey, usage: ExtendedKeyUsagePurpose) -> String {
            let mut params = CertificateParams::default();
            params.extended_key_usages = vec![usage];
            params.not_before = date_time_ymd(2030, 1, 1);
            params.not_after = date_time_ymd(2030, 1, 31);
            let key = KeyPair::from_pem(&host.to_pem()).unwrap();
            params.signed_by(&key, &self.issuer()).unwrap().pem()
        }
    }

    fn at(time: &str) -> SystemTime {
        humantime::parse_rfc3339(time).unwrap()
    }

    const CLIENT: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ClientAuth;

    #[test]
    fn tells_its_dates_and_when_two_thirds_are_over() {
        let pem = Authority::new("CA").certify(&HostKey::make().unwrap(), CLIENT);
        let certificate = Certificate::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(certificate.expires_at(), at("2030-01-31T00:00:00Z"));
        assert_eq!(certificate.renew_at(), at("2030-01-21T00:00:00Z"));
    }

    #[test]
    fn is_checked_for_all_that_it_must_be() {
        let (host, other) = (HostKey::make().unwrap(), HostKey::make().unwrap());
        let (ca, stranger) = (Authority::new("CA"), Authority::new("CA"));
        let good = ca.certify(&host, CLIENT);
        let now = "2030-01-15T00:00:00Z";
        let check = |pem: &str, ca_pem: &str, now: &str| {
            let certificate = Certificate::from_pem(pem.as_bytes())?;
            certificate.check(&host.public(), ca_pem.as_bytes(), at(now))
        };
        assert_eq!(check(&good, &ca.pem(), now), Ok(()));
        let server = ca.certify(&host, ExtendedKeyUsagePurpose::ServerAuth);
        let for_other = ca.certify(&other, CLIENT);
        for (pem, ca_pem, now, cause) in [
            (&for_other, ca.pem(), now, "another key"),
            (&good, stranger.pem(), now, "not good"),
            (
                &good,
                Authority::new("Other").pem(),
                now,
                "does not come from the CA",
            ),
            (&server, ca.pem(), now, "not meant for clients"),
            (
                &good,
                ca.pem(),
                "2030-02-01T00:00:00Z",
                "expired at 2030-01-31T00:00:00Z",
            ),
            (
                &good,
                ca.pem(),
                "2029-12-31T23:59:59Z",
                "valid from 2030-01-01T00:00:00Z",
            ),
            (&good, String::new(), now, "ca_pem: there is no certificate"),
            (&String::new(), ca.pem(), now, "there is no certificate"),
        ] {
            let said = check(pem, &ca_pem, now).unwrap_err();
            assert!(said.contains(cause), "{said} is not: {cause}");
        }
    }

    #[test]
    fn a_chain_may_come_with_it() {
        let host = HostKey::make().unwrap();
        let (root, between) = (Authority::new("root"), Authority::new("between"));
        let leaf = between.certify(&host, CLIENT);
        let now = at("2030-01-15T00:00:00Z");
        let check = |pem: &str| {
            let certificate = Certificate::from_pem(pem.as_bytes()).unwrap();
            certificate.check(&host.public(), root.pem().as_bytes(), now)
        };
        assert!(check(&leaf).is_err());
        assert_eq!(check(&format!("{leaf}{}", between.below(&root))), Ok(()));
    }
}
