//! Certificates of Mimir's agents: the request, the validity, the proof in TLS.

use crate::client_ca::ClientCa;
use axum::Json;
use axum::extract::State;
use hub::App;
use hub::body::{JsonBody, Wire};
use hub::clock::Millis;
use hub::refusal::Refusal;
use hub::request::{Admin, Peer};
use rcgen::{CertificateSigningRequestParams, PublicKey, PublicKeyData as _};
use rusqlite::Savepoint;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Returns the key of a PKCS#10 request in PEM. Its signature proves that the host has the private key.
pub(super) fn read_csr(pem: &str) -> Result<PublicKey, String> {
    let request =
        CertificateSigningRequestParams::from_pem(pem).map_err(|cause| format!("csr: {cause}"))?;
    let key = request.public_key;
    // An uncompressed point of P-256: the name of the signature does not name the curve.
    if key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != 65 {
        return Err("csr: the key must be ECDSA on P-256, and signed with SHA-256".to_owned());
    }
    Ok(key)
}

/// The response with a certificate.
#[derive(Serialize)]
pub(super) struct Certified {
    agent_id: String,
    certificate_pem: String,
    ca_pem: String,
}

impl Certified {
    /// Issues a certificate for the key.
    pub(super) fn issue(
        ca: &ClientCa,
        agent_id: String,
        key: &PublicKey,
        valid: &Range<Millis>,
    ) -> Result<Json<Self>, Refusal> {
        let certificate_pem = ca.issue(&agent_id, key, valid).map_err(|cause| {
            tracing::error!(%cause, "signing a certificate");
            Refusal::internal()
        })?;
        Ok(Json(Self {
            agent_id,
            certificate_pem,
            ca_pem: ca.pem().to_owned(),
        }))
    }
}

/// Returns the validity of a certificate that is issued now.
pub(super) fn validity(savepoint: &Savepoint<'_>, now: Millis) -> rusqlite::Result<Range<Millis>> {
    let (lifetime, age): (Millis, Millis) = savepoint
        .prepare_cached("SELECT lifetime_secs, age_secs FROM mimir_certificates")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let start = now.saturating_sub(age.saturating_mul(1000));
    Ok(start..start.saturating_add(lifetime.saturating_mul(1000)))
}

/// Returns the key that a caller has proved to hold in TLS, if its certificate is valid by the hub's
/// clock.
pub(super) fn proven_key(app: &App, peer: &Peer) -> Result<Vec<u8>, Refusal> {
    let key = peer.certificate.as_ref().and_then(|certificate| {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let expires_at = certificate.validity().not_after.timestamp();
        let key = certificate.public_key().subject_public_key.data.to_vec();
        (app.clock.now() / 1000 <= expires_at).then_some(key)
    });
    key.ok_or_else(|| {
        tracing::info!("a call without a client certificate, or with an expired one");
        Refusal::unauthorised()
    })
}

/// The validity of certificates from now on. One with an age is as if issued that long ago.
#[derive(Deserialize, Serialize)]
pub(super) struct CertificateRules {
    lifetime_secs: i64,
    #[serde(default)]
    age_secs: i64,
}

impl Wire for CertificateRules {
    type Checked = Self;

    fn check(self) -> Result<Self, String> {
        const TEN_YEARS: i64 = 315_360_000;
        if (1..=TEN_YEARS).contains(&self.lifetime_secs)
            && (-TEN_YEARS..=TEN_YEARS).contains(&self.age_secs)
        {
            Ok(self)
        } else {
            Err("lifetime_secs, age_secs: at most ten years".to_owned())
        }
    }
}

/// `POST /api/v1/mimir/certificates`: sets the validity of certificates from now on.
pub(super) async fn set_rules(
    _: Admin,
    State(app): State<Arc<App>>,
    body: JsonBody<CertificateRules>,
) -> Result<Json<CertificateRules>, Refusal> {
    let rules = body.value;
    let (lifetime, age) = (rules.lifetime_secs, rules.age_secs);
    app.database
        .transact(move |savepoint| {
            savepoint
                .prepare_cached("UPDATE mimir_certificates SET lifetime_secs = ?1, age_secs = ?2")?
                .execute([lifetime, age])
        })
        .await?;
    Ok(Json(rules))
}
