//! Certificates, valid and invalid.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A server's certificate, and its key.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params("root"), key).unwrap())
    }

    /// Makes an intermediate authority, signed by this one.
    pub(crate) fn intermediate(&self) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(params("intermediate"), key, &self.0).unwrap())
    }

    /// Returns the certificate of the authority, as PEM.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a server certificate for `name`, valid today.
    pub(crate) fn issue(&self, name: &str) -> Identity {
        self.issue_between(name, 2020, 2120)
    }

    /// Issues a server certificate, valid from the first day of year `from` to that of year `to`.
    pub(crate) fn issue_between(&self, name: &str, from: i32, to: i32) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut server = CertificateParams::new(vec![name.to_owned()]).unwrap();
        server.not_before = date_time_ymd(from, 1, 1);
        server.not_after = date_time_ymd(to, 1, 1);
        Identity {
            certificate: server.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("test {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params
}
