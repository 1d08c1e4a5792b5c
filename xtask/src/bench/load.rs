//! How many enrolments a hub takes in a second: each over a TLS connection of its own, each answered
//! when its commit is on the disk. The load comes from this process, not from agents.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::cpu::{Cpu, Used};
use super::enrolment::Scene;
use crate::error::{Context, Result, Stop};

/// Connections at the same time.
const AT_ONCE: usize = 64;

/// What the hub did.
pub(crate) struct Load {
    pub(crate) enrolments: usize,
    pub(crate) time: Duration,
    pub(crate) used: Used,
}

impl Load {
    /// Enrolments in a second.
    pub(crate) fn rate(&self) -> f64 {
        let count = u32::try_from(self.enrolments).unwrap_or(u32::MAX);
        f64::from(count) / self.time.as_secs_f64().max(0.001)
    }
}

/// Enrols so many hosts, each with a key of its own.
pub(crate) async fn run(scene: &Scene, enrolments: usize) -> Result<Load> {
    let address: Arc<str> = scene.address().into();
    // Keys and signatures are the hosts' work, so they are made before.
    let mut requests = Vec::new();
    for _ in 0..enrolments {
        let signed = scene.request()?;
        let head = scene.head(&signed).replace('\n', "\r\n");
        let mut request = format!(
            "POST /api/v1/agents/enrol HTTP/1.1\r\nHost: {address}\r\n{head}Content-Length: {}\r\n\r\n",
            signed.body.len()
        )
        .into_bytes();
        request.extend_from_slice(&signed.body);
        requests.push(request);
    }
    let connector = TlsConnector::from(Arc::new(fresh(scene)?));
    let hub = scene
        .hub
        .id()
        .ok_or_else(|| Stop::failed("the hub has ended"))?;
    let share = requests.len().div_ceil(AT_ONCE).max(1);
    let (before, start) = (Cpu::now(hub)?, Instant::now());
    let tasks: Vec<_> = requests
        .chunks(share)
        .map(|requests| {
            let (requests, address) = (requests.to_vec(), Arc::clone(&address));
            let connector = connector.clone();
            tokio::spawn(async move {
                for request in requests {
                    enrol(&connector, &address, &request).await?;
                }
                Ok::<_, Stop>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.context(|| "a host".to_owned())??;
    }
    let time = start.elapsed();
    Ok(Load {
        enrolments,
        time,
        used: before.until(Cpu::now(hub)?, time),
    })
}

/// Every connection begins anew, as that of a host that has never been there.
fn fresh(scene: &Scene) -> Result<ClientConfig> {
    let what = || "the hub's CA".to_owned();
    let path = scene.hub.ca_file.clone().unwrap_or_default();
    let pem = fs::read(&path).context(what)?;
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&pem).context(what)?)
        .context(what)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context(what)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

async fn enrol(connector: &TlsConnector, address: &str, request: &[u8]) -> Result<()> {
    let what = || "an enrolment".to_owned();
    let socket = TcpStream::connect(address).await.context(what)?;
    socket.set_nodelay(true).context(what)?;
    let ip: std::net::SocketAddr = address.parse().context(what)?;
    let name = ServerName::IpAddress(ip.ip().into());
    let mut tls = connector.connect(name, socket).await.context(what)?;
    tls.write_all(request).await.context(what)?;
    let mut answer = Vec::with_capacity(1024);
    while !is_whole(&answer) {
        if tls.read_buf(&mut answer).await.context(what)? == 0 {
            break;
        }
    }
    if answer.starts_with(b"HTTP/1.1 201") {
        return Ok(());
    }
    let head = String::from_utf8_lossy(&answer);
    let status = head.lines().next().unwrap_or("no answer");
    Err(Stop::failed(format!("an enrolment: {status}")))
}

/// Whether head and body of an answer are there.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    head.lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.trim().parse::<usize>().ok())?
        })
        .is_some_and(|length| body.len() >= length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_body() {
        let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}";
        assert!(is_whole(answer));
        assert!(!is_whole(&answer[..answer.len() - 1]));
        assert!(!is_whole(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n"));
    }
}
