//! Chains and certificates of the hub: what is trusted, and how what is not trusted is explained. openssl makes
//! those that rcgen does not make.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::common::{Run, TestHost};

/// Parameters of a certificate that is valid today.
fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params
}

fn ca(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// Parameters of a server's certificate for 127.0.0.1.
fn server() -> CertificateParams {
    let names = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    let mut params = params("server");
    params.subject_alt_names = names.subject_alt_names;
    params
}

fn authority(params: CertificateParams) -> CertifiedIssuer<'static, KeyPair> {
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A hub that refuses every request, after its handshake. Returns its URL.
fn hub(chain: &str, key: &str) -> String {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let key = rustls::crypto::ring::sign::any_ecdsa_type(&key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        // `with_single_cert` serves no certificate of version 1.
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(
            chain, key,
        ))));
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::Stream::new(&mut connection, &mut socket);
            let mut request = [0; 4096];
            // A client that does not trust the certificate ends here.
            if stream.read(&mut request).is_ok_and(|length| length > 0) {
                let refusal = "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                let _ = stream.write_all(refusal.as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    url
}

/// Enrols at `url`: with a CA file, or with `system` as the system's store, or with a pin.
fn enrol(url: &str, trust: Trust<'_>) -> Run {
    let host = TestHost::new();
    let agent = |more: &[&str]| {
        let arguments = [&["enrol", "--wait", "0s", "--hub-url", url], more].concat();
        host.agent(&arguments).env("MONSYS_TOKEN", "enrl_x1")
    };
    match trust {
        Trust::CaFile(pem) => {
            let path = host.write_file("etc/ssl/ca.pem", pem);
            agent(&["--ca-file", path.to_str().unwrap()]).run()
        }
        Trust::System(pem) => {
            let path = host.write_file("etc/ssl/system.pem", pem);
            agent(&[])
                .env("SSL_CERT_FILE", path.to_str().unwrap())
                .run()
        }
        Trust::Pin(pin) => agent(&["--ca-pin", pin]).run(),
    }
}

#[derive(Clone, Copy)]
enum Trust<'a> {
    CaFile(&'a str),
    System(&'a str),
    Pin(&'a str),
}

/// The exit code for a certificate that is trusted: the hub refuses the token.
const TRUSTED: i32 = 77;

fn pin(pem: &str) -> String {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    agent_core::hub::tls::spki_pin(&anchor(&certificate)).to_string()
}

fn anchor(certificate: &CertificateDer<'_>) -> TrustAnchor<'static> {
    let mut store = rustls::RootCertStore::empty();
    store.add(certificate.clone().into_owned()).unwrap();
    store.roots.remove(0)
}

/// RFC 4158: a path that leads nowhere does not hide one that leads to a trusted root. The hub sends a
/// certificate of the root by an older CA, which has expired.
#[test]
fn any_one_valid_path_is_enough() {
    let root = authority(ca("root"));
    let older = authority(ca("older root"));
    let mut cross = ca("root");
    cross.not_after = date_time_ymd(2021, 1, 1);
    let cross = cross.signed_by(root.key(), &older).unwrap().pem();
    let mut expired = ca("root");
    expired.not_after = date_time_ymd(2021, 1, 1);
    let namesake = authority(expired).pem();

    let key = KeyPair::generate().unwrap();
    let own = server().signed_by(&key, &root).unwrap().pem();
    let url = hub(&format!("{own}{cross}"), &key.serialize_pem());
    let root = root.pem();
    for trusted in [
        root.clone(),
        format!("{namesake}{root}"),
        format!("{}{root}", older.pem()),
    ] {
        enrol(&url, Trust::CaFile(&trusted)).expect(TRUSTED);
        enrol(&url, Trust::System(&trusted)).expect(TRUSTED);
    }
    enrol(&url, Trust::Pin(&pin(&root))).expect(TRUSTED);
    // Without a valid path, the first error is the one that is reported.
    let stranger = authority(ca("stranger")).pem();
    enrol(&url, Trust::System(&stranger))
        .expect(69)
        .expect_stderr(&["expired at 2021-01-01T00:00:00Z"]);
}

/// The files of `SSL_CERT_FILE` and `SSL_CERT_DIR`. What is broken in one of them is named, and hides no other
/// certificate.
#[test]
fn a_store_is_read_as_editors_and_other_tools_leave_it() {
    let root = authority(ca("root"));
    let other = authority(ca("other")).pem();
    let key = KeyPair::generate().unwrap();
    let own = server().signed_by(&key, &root).unwrap().pem();
    let url = hub(&own, &key.serialize_pem());
    let root = root.pem();
    let lines = other.lines().count();
    let begin = other.replacen("CERTIFICATE-----", "CERTIFICATE----", 1);
    let host = TestHost::new();
    for (text, warning) in [
        (format!("\u{feff}{root}"), None),
        (format!("{}{root}", other.trim_end()), None),
        (root.replace("CERTIFICATE", "X509 CERTIFICATE"), None),
        (root.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), None),
        (root.replace('\n', "\r\n"), None),
        (
            format!("{begin}{root}"),
            Some("certificate 1 (line 1) has a damaged BEGIN line".to_owned()),
        ),
        (
            format!("{root}{}", other.replacen("MII", "M*I", 1)),
            Some(format!("certificate 2 (line {}) is not Base64", lines + 1)),
        ),
    ] {
        let file = host.write_file("certs/root.pem", &text);
        host.write_file("certs/README", "No certificate.\n");
        let folder = file.parent().unwrap();
        for (variable, path) in [("SSL_CERT_FILE", &*file), ("SSL_CERT_DIR", folder)] {
            let run = host
                .agent(&["enrol", "--wait", "0s", "--hub-url", &url])
                .env("MONSYS_TOKEN", "enrl_x1")
                .env(variable, path.to_str().unwrap())
                .run();
            let run = run.expect(TRUSTED);
            match &warning {
                Some(warning) => {
                    run.expect_stderr(&["the system's store: ", file.to_str().unwrap(), warning]);
                }
                None => assert!(!run.stderr.contains("store: "), "{}", run.stderr),
            }
        }
    }
    let missing = host.agent(&["enrol", "--wait", "0s", "--hub-url", &url]);
    let missing = missing.env("SSL_CERT_FILE", "/nonexistent.pem");
    let run = missing.env("MONSYS_TOKEN", "enrl_x1").run().expect(69);
    run.expect_stderr(&["/nonexistent.pem: No such file"]);
}

/// A server's certificate is trusted where it is named itself, also with CA:TRUE, as `openssl req -x509` makes it.
#[test]
fn a_certificate_that_is_named_itself_is_trusted() {
    let self_signed = |change: &dyn Fn(&mut CertificateParams)| {
        let key = KeyPair::generate().unwrap();
        let mut params = server();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let pem = params.self_signed(&key).unwrap().pem();
        (hub(&pem, &key.serialize_pem()), pem)
    };
    for is_ca in [
        IsCa::Ca(BasicConstraints::Unconstrained),
        IsCa::ExplicitNoCa,
        IsCa::NoCa,
    ] {
        let (url, pem) = self_signed(&|params| params.is_ca = is_ca);
        enrol(&url, Trust::CaFile(&pem)).expect(TRUSTED);
        enrol(&url, Trust::System(&pem)).expect(TRUSTED);
        enrol(&url, Trust::Pin(&pin(&pem))).expect(TRUSTED);
    }
    // One that another CA has issued needs no chain either.
    let key = KeyPair::generate().unwrap();
    let pem = server()
        .signed_by(&key, &authority(ca("other")))
        .unwrap()
        .pem();
    let url = hub(&pem, &key.serialize_pem());
    enrol(&url, Trust::CaFile(&pem)).expect(TRUSTED);
    enrol(&url, Trust::System(&pem)).expect(TRUSTED);
    enrol(&url, Trust::Pin(&pin(&pem))).expect(TRUSTED);
    // Time and name count all the same.
    let (url, pem) = self_signed(&|params| params.not_after = date_time_ymd(2021, 1, 1));
    let (other_url, other) = self_signed(&|params| params.subject_alt_names.clear());
    for (url, pem, said) in [
        (&url, &pem, "expired at"),
        (&other_url, &other, "is not for 127.0.0.1"),
    ] {
        enrol(url, Trust::CaFile(pem))
            .expect(69)
            .expect_stderr(&[said]);
        enrol(url, Trust::System(pem))
            .expect(69)
            .expect_stderr(&[said]);
        enrol(url, Trust::Pin(&pin(pem)))
            .expect(69)
            .expect_stderr(&[said]);
    }
    // One that is not named is explained, with a fix that was not tried yet.
    let (url, _) = self_signed(&|_| ());
    let said = [
        "certificate of a CA (CA:TRUE)",
        "this very certificate",
        "CA:FALSE",
    ];
    enrol(&url, Trust::CaFile(&other))
        .expect(69)
        .expect_stderr(&said);
    enrol(&url, Trust::System(&other))
        .expect(69)
        .expect_stderr(&said);
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Makes a server's certificate by a CA: `ca.pem`, `own.pem`, `own.key`.
fn by_openssl(curve: &str, root: &str, sign: &str) -> [String; 3] {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        folder,
        &format!("ecparam -name {curve} -genkey -noout -out ca.key"),
    );
    openssl(
        folder,
        "ecparam -name prime256v1 -genkey -noout -out sec1.key",
    );
    openssl(folder, "pkcs8 -topk8 -nocrypt -in sec1.key -out own.key");
    openssl(folder, "req -new -key ca.key -subj /CN=root -out ca.csr");
    openssl(folder, "req -new -key own.key -subj /CN=hub -out own.csr");
    openssl(
        folder,
        &format!("x509 -req -in ca.csr -signkey ca.key -days 3 -out ca.pem{root}"),
    );
    openssl(
        folder,
        &format!(
            "x509 -req -in own.csr -CA ca.pem -CAkey ca.key -set_serial 7 -days 3 -out own.pem{sign}"
        ),
    );
    ["ca.pem", "own.pem", "own.key"].map(|name| std::fs::read_to_string(folder.join(name)).unwrap())
}

/// A root of version 1 is a root; a server's certificate of version 1 is explained.
#[test]
fn certificates_of_version_1_are_roots_or_explained() {
    let [ca, own, key] = by_openssl("prime256v1", "", " -extfile names");
    let url = hub(&format!("{own}{ca}"), &key);
    enrol(&url, Trust::CaFile(&ca)).expect(TRUSTED);
    enrol(&url, Trust::System(&ca)).expect(TRUSTED);
    enrol(&url, Trust::Pin(&pin(&ca))).expect(TRUSTED);

    let [ca, own, key] = by_openssl("prime256v1", "", "");
    let url = hub(&own, &key);
    for trust in [Trust::CaFile(&ca), Trust::System(&ca)] {
        enrol(&url, trust)
            .expect(69)
            .expect_stderr(&["X.509 version 1", "version 3", "-extfile"]);
    }
}

#[test]
fn a_key_that_is_not_supported_is_explained() {
    let [ca, own, key] = by_openssl("secp521r1", " -extfile names", " -extfile names");
    let url = hub(&own, &key);
    for trust in [Trust::CaFile(&ca), Trust::System(&ca)] {
        enrol(&url, trust)
            .expect(69)
            .expect_stderr(&["does not support, such as P-521", "P-256"]);
    }
}
