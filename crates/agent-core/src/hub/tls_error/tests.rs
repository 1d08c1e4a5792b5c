//! Every error of rustls and webpki, as a user reads it. The lists are compared with the sources of the locked
//! versions, so that an update with a new variant fails here.

#![expect(deprecated, reason = "the libraries may still return them")]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{
    CertRevocationListError, EncryptedClientHelloError, ExtendedKeyPurpose, InconsistentKeys,
    InvalidMessage, PeerMisbehaved,
};
use webpki::Error as Webpki;

use super::*;

const TIME: UnixTime = UnixTime::since_unix_epoch(Duration::from_hours(500_000));

/// The text of a library's source file, in the locked version.
fn source(library: &str, file: &str) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let manifest = packages
        .iter()
        .find(|package| package["name"] == library)
        .and_then(|package| package["manifest_path"].as_str())
        .unwrap();
    std::fs::read_to_string(PathBuf::from(manifest).with_file_name("").join(file)).unwrap()
}

/// The first word of a variant's `Debug` output, or of its declaration.
fn name(text: &str) -> String {
    text.chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect()
}

/// The names of the variants of an enum, from its source.
fn variants(source: &str, of: &str) -> BTreeSet<String> {
    let (_, body) = source.split_once(&format!("pub enum {of} {{\n")).unwrap();
    body.lines()
        .take_while(|line| *line != "}")
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()))
        .map(name)
        .collect()
}

fn names_of(variants: &[impl Debug]) -> BTreeSet<String> {
    variants
        .iter()
        .map(|variant| name(&format!("{variant:?}")))
        .collect()
}

/// What a variant of a nested enum looks like to the printer.
struct Nested(String);

impl Debug for Nested {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {{ data: [1] }}", self.0)
    }
}

/// Panics if `text` looks like Rust.
fn expect_words(text: &str) {
    let is_rust = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric());
        let letters: Vec<char> = word.chars().collect();
        let has_hump = letters
            .windows(2)
            .any(|pair| pair[0].is_lowercase() && pair[1].is_uppercase());
        let has_call = letters
            .windows(2)
            .any(|pair| pair[0].is_alphanumeric() && pair[1] == '(');
        (has_hump && word != "extendedKeyUsage" && !word.contains("extendedKeyUsage=")) || has_call
    };
    assert!(!text.contains(['{', '}', '[', ']', '"']), "{text}");
    assert!(!text.contains("::"), "{text}");
    assert!(!text.split_whitespace().any(is_rust), "{text}");
}

/// Feeds an error through the printer, as the hub's and as a proxy's.
fn print(error: &TlsError) {
    let via = Connection {
        named: "HTTPS-PROXY names the proxy proxy.test:3128".into(),
        has_user: false,
    };
    for trust in [Trust::Public, Trust::CaFile, Trust::Pin] {
        for is_proxys in [false, true] {
            let sent = explain(error, trust, Some(&via), is_proxys);
            let (SendError::Transient(error) | SendError::Final(error)) = sent;
            expect_words(&error.to_string());
        }
    }
}

fn certificate_errors() -> Vec<CertificateError> {
    use CertificateError as C;
    vec![
        C::BadEncoding,
        C::Expired,
        C::ExpiredContext {
            time: TIME,
            not_after: TIME,
        },
        C::NotValidYet,
        C::NotValidYetContext {
            time: TIME,
            not_before: TIME,
        },
        C::Revoked,
        C::UnhandledCriticalExtension,
        C::UnknownIssuer,
        C::UnknownRevocationStatus,
        C::ExpiredRevocationList,
        C::ExpiredRevocationListContext {
            time: TIME,
            next_update: TIME,
        },
        C::BadSignature,
        C::UnsupportedSignatureAlgorithm,
        C::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: vec![6, 8],
            supported_algorithms: vec![],
        },
        C::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: vec![6, 8],
            public_key_algorithm_id: vec![6, 8],
        },
        C::NotValidForName,
        C::NotValidForNameContext {
            expected: ServerName::try_from("hub.test").unwrap(),
            presented: [
                "DnsName(\"a.test\")",
                "IpAddress(192.0.2.1)",
                "DirectoryName",
                "Unsupported(0x05)",
            ]
            .map(String::from)
            .to_vec(),
        },
        C::InvalidPurpose,
        C::InvalidPurposeContext {
            required: ExtendedKeyPurpose::ServerAuth,
            presented: vec![
                ExtendedKeyPurpose::ClientAuth,
                ExtendedKeyPurpose::Other(vec![1, 2]),
            ],
        },
        C::InvalidOcspResponse,
        C::ApplicationVerificationFailure,
        C::Other(OtherError(Arc::new(PinMismatch))),
    ]
}

fn webpki_errors() -> Vec<Webpki> {
    let unsupported = || webpki::UnsupportedSignatureAlgorithmContext {
        signature_algorithm_id: vec![6, 8],
        supported_algorithms: vec![],
    };
    let for_key = || webpki::UnsupportedSignatureAlgorithmForPublicKeyContext {
        signature_algorithm_id: vec![6, 8],
        public_key_algorithm_id: vec![6, 8],
    };
    vec![
        Webpki::BadDer,
        Webpki::BadDerTime,
        Webpki::CaUsedAsEndEntity,
        Webpki::CertDistrusted,
        Webpki::CertExpired {
            time: TIME,
            not_after: TIME,
        },
        Webpki::CertNotValidForName(webpki::InvalidNameContext {
            expected: ServerName::try_from("hub.test").unwrap(),
            presented: vec!["DnsName(\"a.test\")".into()],
        }),
        Webpki::CertNotValidYet {
            time: TIME,
            not_before: TIME,
        },
        Webpki::CertRevoked,
        Webpki::CrlExpired {
            time: TIME,
            next_update: TIME,
        },
        Webpki::EmptyEkuExtension,
        Webpki::EndEntityUsedAsCa,
        Webpki::ExtensionValueInvalid,
        Webpki::InvalidCertValidity,
        Webpki::InvalidCrlNumber,
        Webpki::InvalidNetworkMaskConstraint,
        Webpki::InvalidSerialNumber,
        Webpki::InvalidCrlSignatureForPublicKey,
        Webpki::InvalidSignatureForPublicKey,
        Webpki::IssuerNotCrlSigner,
        Webpki::MalformedDnsIdentifier,
        Webpki::MalformedExtensions,
        Webpki::MalformedNameConstraint,
        Webpki::MaximumNameConstraintComparisonsExceeded,
        Webpki::MaximumPathBuildCallsExceeded,
        Webpki::MaximumPathDepthExceeded,
        Webpki::MaximumSignatureChecksExceeded,
        Webpki::NameConstraintViolation,
        Webpki::PathLenConstraintViolated,
        Webpki::RequiredEkuNotFound,
        Webpki::RequiredEkuNotFoundContext(webpki::RequiredEkuNotFoundContext {
            required: webpki::KeyUsage::server_auth(),
            present: vec![vec![1, 3, 6]],
        }),
        Webpki::SignatureAlgorithmMismatch,
        Webpki::TrailingData(webpki::DerTypeId::Certificate),
        Webpki::UnknownIssuer,
        Webpki::UnknownRevocationStatus,
        Webpki::UnsupportedCertVersion,
        Webpki::UnsupportedCriticalExtension,
        Webpki::UnsupportedCrlIssuingDistributionPoint,
        Webpki::UnsupportedCrlVersion,
        Webpki::UnsupportedDeltaCrl,
        Webpki::UnsupportedIndirectCrl,
        Webpki::UnsupportedNameType,
        Webpki::UnsupportedRevocationReason,
        Webpki::UnsupportedRevocationReasonsPartitioning,
        Webpki::UnsupportedCrlSignatureAlgorithm,
        Webpki::UnsupportedCrlSignatureAlgorithmContext(unsupported()),
        Webpki::UnsupportedSignatureAlgorithm,
        Webpki::UnsupportedSignatureAlgorithmContext(unsupported()),
        Webpki::UnsupportedCrlSignatureAlgorithmForPublicKey,
        Webpki::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(for_key()),
        Webpki::UnsupportedSignatureAlgorithmForPublicKey,
        Webpki::UnsupportedSignatureAlgorithmForPublicKeyContext(for_key()),
    ]
}

fn tls_errors() -> Vec<TlsError> {
    use TlsError as T;
    vec![
        T::InappropriateMessage {
            expect_types: vec![rustls::ContentType::Handshake],
            got_type: rustls::ContentType::ApplicationData,
        },
        T::InappropriateHandshakeMessage {
            expect_types: vec![rustls::HandshakeType::Finished],
            got_type: rustls::HandshakeType::ServerHello,
        },
        T::InvalidEncryptedClientHello(EncryptedClientHelloError::NoCompatibleConfig),
        T::InvalidMessage(InvalidMessage::MissingData("data")),
        T::NoCertificatesPresented,
        T::UnsupportedNameType,
        T::DecryptError,
        T::EncryptError,
        T::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
        T::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare),
        T::AlertReceived(AlertDescription::InternalError),
        T::InvalidCertificate(CertificateError::Revoked),
        T::InvalidCertRevocationList(CertRevocationListError::ParseError),
        T::General("no reason given".into()),
        T::FailedToGetCurrentTime,
        T::FailedToGetRandomBytes,
        T::HandshakeNotComplete,
        T::PeerSentOversizedRecord,
        T::NoApplicationProtocol,
        T::BadMaxFragmentSize,
        T::InconsistentKeys(InconsistentKeys::KeyMismatch),
        T::Other(OtherError(Arc::new(Webpki::TrailingData(
            webpki::DerTypeId::Certificate,
        )))),
    ]
}

#[test]
fn no_error_of_tls_reaches_a_user_as_rust() {
    let rustls = source("rustls", "src/error.rs");
    let all = tls_errors();
    assert_eq!(names_of(&all), variants(&rustls, "Error"));
    all.iter().for_each(print);

    let all = certificate_errors();
    assert_eq!(names_of(&all), variants(&rustls, "CertificateError"));
    for error in all {
        let of_proxy = OtherError(Arc::new(ProxyRefused(error.clone())));
        print(&CertificateError::Other(of_proxy).into());
        print(&error.into());
    }

    let all = webpki_errors();
    let webpki = source("rustls-webpki", "src/error.rs");
    assert_eq!(names_of(&all), variants(&webpki, "Error"));
    for error in all {
        expect_words(&tls_words::webpki(&error));
        print(&CertificateError::Other(OtherError(Arc::new(error))).into());
    }

    for number in 0..=255 {
        print(&TlsError::AlertReceived(AlertDescription::from(number)));
    }
    for nested in [
        "InvalidMessage",
        "PeerIncompatible",
        "PeerMisbehaved",
        "EncryptedClientHelloError",
        "CertRevocationListError",
        "InconsistentKeys",
    ] {
        for variant in variants(&rustls, nested) {
            expect_words(&tls_words::words(&Nested(variant)));
        }
    }
}
