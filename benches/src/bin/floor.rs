//! The least that an enrolment can be: a socket of the standard library, rustls, HTTP written by hand,
//! and the files that the contract wants, each synced. No settings, no lock, no proof that the result
//! can be written, no retries, no answer that is judged. What the agent costs above this is its own.
//!
//! `MONSYS_TOKEN=… floor ADDRESS:PORT CA_FILE ROOT`
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "it has no World, no store and no Report"
)]

use std::error::Error;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, ca_file, root] = arguments.as_slice() else {
        return Err("usage: MONSYS_TOKEN=… floor ADDRESS:PORT CA_FILE ROOT".into());
    };
    let token = std::env::var("MONSYS_TOKEN")?;
    let root = PathBuf::from(root);
    let (state_dir, config_dir) = (root.join("var/lib/monsys"), root.join("etc/monsys"));
    make_folder(&state_dir, 0o700)?;
    make_folder(&config_dir, 0o755)?;
    let mut seed = [0; 32];
    SystemRandom::new()
        .fill(&mut seed)
        .map_err(|_| "no random bytes")?;
    write(&state_dir, "agent-signing.key", &seed)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| "no key")?;

    let body = body(&root, &pair)?;
    let digest = ring::digest::digest(&ring::digest::SHA256, body.as_bytes());
    let signature = STANDARD.encode(pair.sign(digest.as_ref()));
    let request = format!(
        "POST /api/v1/agents/enrol HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nX-Monsys-Signature: {signature}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(address.parse()?, ca_file, &request)?;

    let id = field(&answer, "agent_id")?;
    let config = format!(
        "hub_url = \"https://{address}\"\nagent_id = \"{id}\"\nagent_token = \"{}\"\ntags = []\n",
        field(&answer, "agent_token")?
    );
    write(&config_dir, "agent.toml", config.as_bytes())?;
    write(&state_dir, "agent-id", format!("{id}\n").as_bytes())?;
    println!("{id}");
    Ok(())
}

/// The facts that the hub insists on, and some that it does not.
fn body(root: &Path, pair: &Ed25519KeyPair) -> Outcome<String> {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let os_release = fs::read_to_string(root.join("etc/os-release"))?;
    let os_info = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .unwrap_or("linux")
        .trim_matches('"');
    Ok(format!(
        "{{\"hostname\":\"{}\",\"os_info\":\"{os_info}\",\"architecture\":\"{}\",\"agent_version\":\"{}\",\
         \"kernel\":\"{}\",\"tags\":[],\"signing_pubkey\":\"{}\"}}",
        text("/proc/sys/kernel/hostname").trim(),
        std::env::consts::ARCH,
        env!("CARGO_PKG_VERSION"),
        text("/proc/sys/kernel/osrelease").trim(),
        STANDARD.encode(pair.public_key().as_ref())
    ))
}

/// One connection, one request; the answer with its head.
fn exchange(address: SocketAddr, ca_file: &str, request: &str) -> Outcome<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca_file)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::IpAddress(address.ip().into());
    let mut tls = ClientConnection::new(Arc::new(config), name)?;
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let mut stream = Stream::new(&mut tls, &mut socket);
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        let count = stream.read(&mut part)?;
        answer.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            if body.len() >= length || count == 0 {
                return Ok(text.into_owned());
            }
        } else if count == 0 {
            return Err("the hub closed the connection".into());
        }
    }
}

/// The text of a field whose value has no quote in it.
fn field<'a>(answer: &'a str, name: &str) -> Outcome<&'a str> {
    answer
        .split_once(&format!("\"{name}\":\""))
        .and_then(|(_, rest)| Some(rest.split_once('"')?.0))
        .ok_or_else(|| answer.lines().next().unwrap_or("no answer").into())
}

fn make_folder(folder: &Path, mode: u32) -> Outcome<()> {
    let parent = folder.parent().ok_or("no parent")?;
    DirBuilder::new().mode(mode).create(folder)?;
    Ok(File::open(parent)?.sync_all()?)
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Outcome<()> {
    let temporary = folder.join(format!(".{name}"));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    Ok(File::open(folder)?.sync_all()?)
}
