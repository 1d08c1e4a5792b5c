//! A proxy that is reached over TLS: its certificate is verified by the system's store, and the hub's as ever.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::common::{Run, TestHost, TestHub};

/// A proxy with a certificate for `name`, of its own CA.
struct HttpsProxy {
    ca: String,
    port: u16,
    _runtime: Runtime,
}

impl HttpsProxy {
    fn new(name: &str) -> Self {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let own = own.signed_by(&key, &ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![own.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(relay(acceptor.clone(), stream));
            }
        });
        Self {
            ca: ca.pem(),
            port,
            _runtime: runtime,
        }
    }
}

/// Opens one tunnel.
async fn relay(acceptor: TlsAcceptor, stream: TcpStream) -> std::io::Result<()> {
    let mut client = acceptor.accept(stream).await?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(client.read_u8().await?);
    }
    let request = String::from_utf8(request).unwrap();
    let target = request.split(' ').nth(1).unwrap();
    let mut hub = TcpStream::connect(target).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut hub).await?;
    Ok(())
}

/// Enrols through the proxy `url`, with `system` as the system's store.
fn enrol(hub: &TestHub, url: &str, system: &str, trust: &[&str]) -> Run {
    let host = TestHost::new();
    let system = host.write_file("etc/ssl/system.pem", system);
    let hub_url = hub.url();
    let arguments = [&["enrol", "--wait", "0s", "--hub-url", &hub_url], trust].concat();
    host.agent(&arguments)
        .env("MONSYS_TOKEN", &hub.token())
        .env("SSL_CERT_FILE", system.to_str().unwrap())
        .env("https_proxy", url)
        .run()
}

#[test]
fn the_systems_store_decides_about_a_proxy_and_the_settings_about_the_hub() {
    let hub = TestHub::new();
    let proxy = HttpsProxy::new("localhost");
    let url = format!("https://localhost:{}", proxy.port);
    let ca_file = hub.ca_file().unwrap();
    let ca_file = ["--ca-file", ca_file.to_str().unwrap()];
    let pin = hub.ca_pin();
    let pin = ["--ca-pin", &*pin];
    for trust in [ca_file, pin] {
        enrol(&hub, &url, &proxy.ca, &trust).expect(0);
    }

    // Neither the hub's CA nor its pin counts for the proxy, and each error says whose certificate it is.
    let hubs_ca = std::fs::read_to_string(hub.ca_file().unwrap()).unwrap();
    for trust in [ca_file, pin] {
        let run = enrol(&hub, &url, &hubs_ca, &trust);
        let named = format!("https_proxy names the proxy localhost:{}", proxy.port);
        run.expect(69).expect_stderr(&[
            "the proxy's certificate is not trusted",
            "its chain ends in a CA that is not trusted here",
            &named,
            "update-ca-certificates",
        ]);
    }
    let strangers = TestHub::new();
    let strangers = strangers.ca_file().unwrap();
    enrol(
        &hub,
        &url,
        &proxy.ca,
        &["--ca-file", strangers.to_str().unwrap()],
    )
    .expect(69)
    .expect_stderr(&["the hub's certificate is not trusted"]);
}

/// A proxy of the hub's host name could be the hub, so the hub's stricter trust counts for both.
#[test]
fn a_proxy_with_the_hubs_host_name_is_trusted_as_the_hub() {
    let hub = TestHub::new();
    let proxy = HttpsProxy::new("127.0.0.1");
    let url = format!("https://127.0.0.1:{}", proxy.port);
    let ca_file = hub.ca_file().unwrap();
    let trust = ["--ca-file", ca_file.to_str().unwrap()];
    enrol(&hub, &url, &proxy.ca, &trust)
        .expect(69)
        .expect_stderr(&[
            "the proxy's certificate is not trusted",
            "the host name of the hub",
        ]);

    let host = TestHost::new();
    let both = std::fs::read_to_string(&ca_file).unwrap() + &proxy.ca;
    let both = host.write_file("etc/ssl/both.pem", &both);
    enrol(&hub, &url, "", &["--ca-file", both.to_str().unwrap()]).expect(0);
}
