//! The program `mock-hub`: its command line, and its run from start to signal.

use crate::start::start;
use clap::Parser;
use hub::{Cidr, Error, Hub, Options, Origin};
use serde::Serialize;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

const EXAMPLES: &str = "\
As soon as the hub answers, it prints one line of JSON on standard output:
  {\"url\":…,\"ca_file\":…,\"ca_pin\":…,\"admin_token\":…}
After that it logs each request on standard error. SIGTERM or Ctrl-C ends the hub.

Examples:
  Try it without TLS, on a port of your choice:
    mock-hub --http --listen 127.0.0.1:8080
  Keep all data over restarts:
    mock-hub --listen 127.0.0.1:8443 --tls-dir hub/tls --database hub/hub.db \\
             --admin-token-file hub/admin-token
  Create a token for 50 hosts and 72 hours:
    curl --cacert CA_FILE -H 'Authorization: Bearer ADMIN_TOKEN' --json \\
      '{\"name\":\"first\",\"ttl_secs\":259200,\"max_uses\":50}' URL/api/v1/enrolment-tokens
  Serve the files that hosts install from:
    mock-hub --listen 127.0.0.1:8443 --dist target/dist
    curl --proto '=https' --tlsv1.2 -fsSL --cacert CA_FILE URL/install.sh |
      MONSYS_TOKEN=… MONSYS_CA_FILE=CA_FILE sh";

/// A monsys hub for tests and for a first try
#[derive(Debug, Parser)]
#[command(name = "mock-hub", version, after_help = EXAMPLES)]
pub struct Cli {
    /// Address and port to listen on; port 0 takes a free one. The certificate is good for this
    /// address and for localhost
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// Plain HTTP instead of HTTPS; refused on anything but a loopback address
    #[arg(long)]
    http: bool,

    /// Store the CA and the certificate here; without it they are new at each start
    #[arg(long, value_name = "DIR", conflicts_with = "http")]
    tls_dir: Option<PathBuf>,

    /// Store tokens, agents and the audit in this SQLite file, which one hub has open at a time;
    /// without it, in memory
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,

    /// Read the admin token from this file, or create it there; without it the token is random
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,

    /// Sign receipts by the Ed25519 key in this file (PKCS#8 PEM, as `openssl genpkey -algorithm
    /// ed25519` writes), so that a hub that has lost its database can take its agents back. The first
    /// one signs, and is created if it does not exist; all verify. May be given more than once
    #[arg(long = "receipt-key", value_name = "FILE")]
    receipt_keys: Vec<PathBuf>,

    /// Keep deletions and revocations in this file too, beside the receipt key: they stay valid
    /// although the database is lost
    #[arg(long, value_name = "FILE", requires = "receipt_keys")]
    revocations: Option<PathBuf>,

    /// Serve this folder, which `cargo xtask dist` makes: its installer as /install.sh, its files
    /// under /dist/
    #[arg(long, value_name = "DIR")]
    dist: Option<PathBuf>,

    /// The interval in seconds at which hosts are to send heartbeats
    #[arg(long, value_name = "SECONDS", default_value = "30",
          value_parser = clap::value_parser!(u32).range(1..))]
    heartbeat_interval: u32,

    /// Trust X-Forwarded-For from these addresses; may be given more than once
    #[arg(long = "trusted-proxy", value_name = "CIDR")]
    trusted_proxies: Vec<Cidr>,

    /// Another URL of the hub (scheme, host and port), if hosts reach it by another name or through
    /// a proxy. /install.sh names the one that the client's Host header matches, or else the
    /// first; may be given more than once
    #[arg(long = "public-url", value_name = "URL")]
    public_urls: Vec<Origin>,
}

/// The line on standard output.
#[derive(Serialize)]
struct Ready<'a> {
    url: &'a str,
    ca_file: Option<&'a Path>,
    ca_pin: Option<&'a str>,
    admin_token: &'a str,
}

impl Cli {
    /// Runs the hub until SIGTERM or SIGINT.
    pub async fn run(self) -> Result<(), Error> {
        // Caught before the start, so that no signal arrives at a half-started hub.
        let mut terminate = catch(SignalKind::terminate())?;
        let mut interrupt = catch(SignalKind::interrupt())?;
        let hub = start(self.options()).await?;
        announce(&hub)?;
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
        hub.stop().await;
        Ok(())
    }

    fn options(self) -> Options {
        Options {
            listen: self.listen,
            http: self.http,
            tls_dir: self.tls_dir,
            database: self.database,
            admin_token_file: self.admin_token_file,
            receipt_keys: self.receipt_keys,
            revocations: self.revocations,
            dist: self.dist,
            heartbeat_interval_secs: self.heartbeat_interval,
            trusted_proxies: self.trusted_proxies,
            public_urls: self.public_urls,
            ..Options::default()
        }
    }
}

fn catch(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Error> {
    signal(kind).map_err(|cause| Error::new("catching signals", cause, "start the hub again"))
}

fn announce(hub: &Hub) -> Result<(), Error> {
    let ready = Ready {
        url: hub.url(),
        ca_file: hub.ca_file(),
        ca_pin: hub.ca_pin(),
        admin_token: hub.admin_token(),
    };
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, &ready)
        .map_err(io::Error::from)
        .and_then(|()| writeln!(stdout))
        .and_then(|()| stdout.flush())
        .map_err(|cause| {
            let hint = "leave standard output open: the hub prints its address there";
            Error::new("printing the hub's address", cause, hint)
        })
}
