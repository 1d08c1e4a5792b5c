//! A client that returns every byte of a response.

use mock_hub::Hub;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Sends these bytes over TLS, or plain TCP if the hub has no TLS. Returns every byte of the
/// response, and how the connection ended.
pub(crate) async fn exchange(hub: &Hub, request: &[u8]) -> (Vec<u8>, io::Result<()>) {
    let (_, address) = hub.url().split_once("://").expect("a URL");
    let tcp = TcpStream::connect(address).await.expect("a connection");
    let mut answer = Vec::new();
    let Some(ca_file) = hub.ca_file() else {
        let ended = talk(tcp, request, &mut answer).await;
        return (answer, ended);
    };
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca_file).expect("a CA"))
        .expect("a root");
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let tls = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .expect("TLS");
    let ended = talk(tls, request, &mut answer).await;
    (answer, ended)
}

async fn talk<S>(mut stream: S, request: &[u8], answer: &mut Vec<u8>) -> io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    stream.write_all(request).await?;
    stream.flush().await?;
    stream.read_to_end(answer).await.map(|_| ())
}

/// Returns a request as bytes, with `Connection: close`.
pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.extend([*name, ": ", *value, "\r\n"]);
    }
    let length = body.len().to_string();
    request.extend(["Content-Length: ", &length, "\r\n\r\n"]);
    [request.as_bytes(), body].concat()
}
