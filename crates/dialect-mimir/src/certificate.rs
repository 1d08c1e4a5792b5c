//! A client certificate: its checks before it is stored, and its dates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use agent_core::hub::tls::provider;
use agent_core::{clock, pem, tls_words};

/// A client certificate with the intermediate certificates of its CA.
#[derive(Debug)]
pub(crate) struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    /// Begin of the validity, since 1970.
    from: Duration,
    /// End of the validity, since 1970.
    until: Duration,
}

/// The reason why a certificate is not stored, and its hint.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// The reason.
    pub(crate) cause: String,
    /// The fix.
    pub(crate) hint: &'static str,
}

impl Misfit {
    const BROKEN: &'static str = "see the server's log: it has to send certificates in PEM";
    const VERSION: &'static str = "an operator of the server makes it issue version 3 certificates: with extensions, such as extendedKeyUsage=clientAuth";
    const OTHER_KEY: &'static str = "an operator of the server makes it certify the key of the request (`csr`), and checks that no proxy answers with another host's response";
    const OTHER_CA: &'static str = "an operator of the server makes it send the CA that issues its client certificates in `ca_pem`, and the certificates between them in `certificate_pem`";
    const USAGE: &'static str = "an operator of the server makes it issue certificates for clients (extendedKeyUsage=clientAuth)";
    const SERVERS_TIME: &'static str =
        "an operator of the server corrects its clock, or the lifetime of its certificates";
    const HOSTS_TIME: &'static str = "set this host's clock: timedatectl set-ntp true";

    fn new(cause: impl Into<String>, hint: &'static str) -> Self {
        Self {
            cause: cause.into(),
            hint,
        }
    }

    fn broken(cause: impl Into<String>) -> Self {
        Self::new(cause, Self::BROKEN)
    }
}

impl From<Misfit> for String {
    fn from(misfit: Misfit) -> Self {
        misfit.cause
    }
}

/// The time at which a certificate has to be valid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The time by the server's clock (`Date`), if it sent one.
    pub(crate) server: Option<SystemTime>,
    /// The time by this host's clock.
    pub(crate) host: SystemTime,
}

impl Certificate {
    /// Reads a PEM file: the certificate first, then the chain if there is one.
    ///
    /// # Errors
    /// The reason why the file is not a certificate.
    pub(crate) fn from_pem(pem: &[u8]) -> Result<Self, Misfit> {
        let chain = read(pem)?;
        let (from, until) = dates(leaf(&chain)?)?;
        Ok(Self { chain, from, until })
    }

    /// Returns the chain as TLS presents it.
    #[must_use]
    pub(crate) fn for_tls(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    /// Returns whether the certificate is for this public key (`SubjectPublicKeyInfo`, DER).
    #[must_use]
    pub(crate) fn is_for(&self, public: &[u8]) -> bool {
        leaf(&self.chain)
            .and_then(parsed)
            .is_ok_and(|leaf| leaf.subject_public_key_info().as_ref() == public)
    }

    /// Checks a certificate before it is stored: it is for this key, from a CA of `ca_pem`, for clients, and
    /// valid now. The server's clock decides, since the server accepts the certificate later. Logs a warning
    /// when the certificate is not valid by this host's clock.
    ///
    /// # Errors
    /// The check that failed.
    pub(crate) fn check(&self, public: &[u8], ca_pem: &[u8], clock: Clock) -> Result<(), Misfit> {
        if !self.is_for(public) {
            let cause = "the certificate is for another key than this host's";
            return Err(Misfit::new(cause, Misfit::OTHER_KEY));
        }
        let in_ca = |cause: String| Misfit::broken(format!("ca_pem: {cause}"));
        let cas = read(ca_pem).map_err(|misfit| in_ca(misfit.cause))?;
        let anchors: Vec<TrustAnchor<'_>> = cas
            .iter()
            .map(|ca| anchor_from_trusted_cert(ca))
            .collect::<Result<_, _>>()
            .map_err(|cause| {
                in_ca(format!(
                    "a certificate is broken: {}",
                    tls_words::webpki(&cause)
                ))
            })?;
        let (now, whose, hint) = match clock.server {
            Some(server) => (server, "the server's clock", Misfit::SERVERS_TIME),
            None => (clock.host, "this host's clock", Misfit::HOSTS_TIME),
        };
        let now = since_1970(now);
        verify(&self.chain, &anchors, now).map_err(|cause| match cause {
            webpki::Error::CertExpired { .. } => Misfit::new(
                format!(
                    "the certificate expired at {}, and {whose} says {}",
                    format_date(self.until),
                    format_date(now)
                ),
                hint,
            ),
            webpki::Error::CertNotValidYet { .. } => Misfit::new(
                format!(
                    "the certificate is valid from {}, and {whose} says {}",
                    format_date(self.from),
                    format_date(now)
                ),
                hint,
            ),
            webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
                let cause = "the certificate does not come from the CA that came with it";
                Misfit::new(cause, Misfit::OTHER_CA)
            }
            webpki::Error::RequiredEkuNotFoundContext(_) => {
                Misfit::new("the certificate is not meant for clients", Misfit::USAGE)
            }
            webpki::Error::UnsupportedCertVersion => version(),
            cause => Misfit::broken(format!(
                "the certificate is not valid: {}",
                tls_words::webpki(&cause)
            )),
        })?;
        let host = since_1970(clock.host);
        if !(self.from..=self.until).contains(&host) {
            tracing::warn!(
                "the certificate is valid from {} to {}, and this host's clock says {}; hint: {}",
                format_date(self.from),
                format_date(self.until),
                format_date(host),
                Misfit::HOSTS_TIME
            );
        }
        Ok(())
    }

    /// Returns the end of the validity.
    #[must_use]
    pub(crate) fn expires_at(&self) -> SystemTime {
        clock::of_1970(self.until)
    }

    /// Returns the time of the renewal: two thirds of the lifetime are over.
    #[must_use]
    pub(crate) fn renew_at(&self) -> SystemTime {
        // The division comes first, so that no date of a certificate overflows.
        let life = self.until.saturating_sub(self.from);
        clock::of_1970(self.from.saturating_add(life / 3 * 2))
    }
}

/// Returns the misfit of a certificate that has no extensions.
fn version() -> Misfit {
    let cause = "the certificate is of X.509 version 1, and TLS needs version 3";
    Misfit::new(cause, Misfit::VERSION)
}

fn read(file: &[u8]) -> Result<Vec<CertificateDer<'static>>, Misfit> {
    let found = pem::certificates(file).map_err(Misfit::broken)?;
    Ok(found.into_iter().map(|found| found.certificate).collect())
}

fn leaf<'a>(chain: &'a [CertificateDer<'static>]) -> Result<&'a CertificateDer<'static>, Misfit> {
    chain
        .first()
        .ok_or_else(|| Misfit::broken("there is no certificate"))
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Result<EndEntityCert<'a>, Misfit> {
    EndEntityCert::try_from(certificate).map_err(|cause| match cause {
        webpki::Error::UnsupportedCertVersion => version(),
        cause => Misfit::broken(format!(
            "the certificate is broken: {}",
            tls_words::webpki(&cause)
        )),
    })
}

fn verify(
    chain: &[CertificateDer<'static>],
    anchors: &[TrustAnchor<'_>],
    at: Duration,
) -> Result<(), webpki::Error> {
    let (leaf, between) = chain.split_first().ok_or(webpki::Error::BadDer)?;
    EndEntityCert::try_from(leaf)?
        .verify_for_usage(
            provider().signature_verification_algorithms.all,
            anchors,
            between,
            UnixTime::since_unix_epoch(at),
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map(|_| ())
}

/// Returns begin and end of the validity, since 1970. The verifier checks the time first, and its error has
/// the date that a wrong time violates.
fn dates(certificate: &CertificateDer<'static>) -> Result<(Duration, Duration), Misfit> {
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
        _ => Err(Misfit::broken(
            "the dates of the certificate cannot be read",
        )),
    }
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn format_date(since_1970: Duration) -> String {
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

    fn clock(time: &str) -> Clock {
        Clock {
            server: None,
            host: at(time),
        }
    }

    #[test]
    fn the_clock_of_the_server_decides() {
        let host = HostKey::make().unwrap();
        let ca = Authority::new("CA");
        let pem = ca.certify(&host, CLIENT);
        let certificate = Certificate::from_pem(pem.as_bytes()).unwrap();
        let check = |server: &str, own: &str| {
            let clock = Clock {
                server: Some(at(server)),
                host: at(own),
            };
            certificate.check(&host.public(), ca.pem().as_bytes(), clock)
        };
        let (early, good) = ("2000-01-01T00:00:00Z", "2030-01-15T00:00:00Z");
        assert_eq!(check(good, early), Ok(()));
        let misfit = check(early, good).unwrap_err();
        assert!(misfit.cause.contains("the server's clock says 2000"));
        assert_eq!(misfit.hint, Misfit::SERVERS_TIME);
    }

    const CLIENT: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ClientAuth;

    #[test]
    fn has_its_dates_and_is_renewed_after_two_thirds() {
        let pem = Authority::new("CA").certify(&HostKey::make().unwrap(), CLIENT);
        let certificate = Certificate::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(certificate.expires_at(), at("2030-01-31T00:00:00Z"));
        assert_eq!(certificate.renew_at(), at("2030-01-21T00:00:00Z"));
    }

    #[test]
    fn each_property_of_a_certificate_is_checked() {
        let (host, other) = (HostKey::make().unwrap(), HostKey::make().unwrap());
        let (ca, stranger) = (Authority::new("CA"), Authority::new("CA"));
        let good = ca.certify(&host, CLIENT);
        let now = "2030-01-15T00:00:00Z";
        let check = |pem: &str, ca_pem: &str, now: &str| {
            let certificate = Certificate::from_pem(pem.as_bytes())?;
            certificate.check(&host.public(), ca_pem.as_bytes(), clock(now))
        };
        assert_eq!(check(&good, &ca.pem(), now), Ok(()));
        let server = ca.certify(&host, ExtendedKeyUsagePurpose::ServerAuth);
        let for_other = ca.certify(&other, CLIENT);
        for (pem, ca_pem, now, cause) in [
            (&for_other, ca.pem(), now, "another key"),
            (&good, stranger.pem(), now, "does not come from the CA"),
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
            (
                &good,
                String::new(),
                now,
                "ca_pem: it holds no PEM certificate",
            ),
            (&String::new(), ca.pem(), now, "it holds no PEM certificate"),
        ] {
            let said = check(pem, &ca_pem, now).unwrap_err().cause;
            assert!(said.contains(cause), "{said} is not: {cause}");
        }
    }

    #[test]
    fn a_chain_may_come_with_it() {
        let host = HostKey::make().unwrap();
        let (root, between) = (Authority::new("root"), Authority::new("between"));
        let leaf = between.certify(&host, CLIENT);
        let now = clock("2030-01-15T00:00:00Z");
        let check = |pem: &str| {
            let certificate = Certificate::from_pem(pem.as_bytes()).unwrap();
            certificate.check(&host.public(), root.pem().as_bytes(), now)
        };
        assert!(check(&leaf).is_err());
        assert_eq!(check(&format!("{leaf}{}", between.below(&root))), Ok(()));
    }
}
