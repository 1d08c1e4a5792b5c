//! A hub from start to stop.

use crate::capacity::Limits;
use crate::cidr::Cidr;
use crate::client_ca::ClientCa;
use crate::clock::{Clock, Millis};
use crate::database::Database;
use crate::dist;
use crate::error::Error;
use crate::faults::Faults;
use crate::origin::{Origin, Origins};
use crate::rate::Rate;
use crate::routes::router;
use crate::secret::{TokenHash, TokenKind, fresh_token};
use crate::server::Server;
use crate::tls::Tls;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// How a hub is to run. The default is a hub for one test: a free loopback port, HTTPS, and
/// nothing that outlives it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Plain HTTP instead of HTTPS, on loopback addresses only.
    pub http: bool,
    /// Where the CAs and the certificate are kept; a temporary directory if not given.
    pub tls_dir: Option<PathBuf>,
    /// The database's file, which one hub has open at a time; in memory if not given.
    pub database: Option<PathBuf>,
    /// The file with the admin token, made if it is not there; a random token if not given.
    pub admin_token_file: Option<PathBuf>,
    /// The folder of installer and packages to serve; none if not given.
    pub dist: Option<PathBuf>,
    /// How often agents are told to send a heartbeat, at least 1. The limits of their calls
    /// go with it.
    pub heartbeat_interval_secs: u32,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Cidr>,
    /// The URLs that clients reach the hub at, beside its own address. The first is for clients
    /// whose `Host` header names none of them.
    pub public_urls: Vec<Origin>,
    /// What keeps slow and many clients from using the hub up.
    #[doc(hidden)]
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            http: false,
            tls_dir: None,
            database: None,
            admin_token_file: None,
            dist: None,
            heartbeat_interval_secs: 30,
            trusted_proxies: Vec::new(),
            public_urls: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// A running hub. [`Hub::stop`] ends it in good order; dropping it ends it too, in its own time.
pub struct Hub {
    tls: Option<Tls>,
    admin_token: String,
    app: Arc<App>,
    stop: watch::Sender<()>,
    server: JoinHandle<()>,
    database: thread::JoinHandle<()>,
}

/// What all requests share.
pub(crate) struct App {
    pub(crate) url: String,
    pub(crate) origins: Origins,
    pub(crate) dist: Option<PathBuf>,
    pub(crate) database: Database,
    pub(crate) clock: Clock,
    pub(crate) admin_token: TokenHash,
    pub(crate) faults: Faults,
    pub(crate) heartbeat_interval_secs: u32,
    pub(crate) rate: Rate,
    /// By the steady clock.
    pub(crate) started_at: Millis,
    pub(crate) trusted_proxies: Vec<Cidr>,
    pub(crate) client_ca: ClientCa,
    pub(crate) limits: Limits,
}

impl App {
    pub(crate) fn interval_millis(&self) -> Millis {
        Millis::from(self.heartbeat_interval_secs) * 1000
    }
}

/// Starts a hub on the current tokio runtime. It answers as soon as this returns.
pub async fn start(options: Options) -> Result<Hub, Error> {
    let listen = options.listen.ip();
    if options.http && !listen.is_loopback() {
        let next = "Leave out --http, or listen on 127.0.0.1 or [::1].";
        let cause = "tokens would cross the network unencrypted";
        return Err(Error::new(format!("plain HTTP on {listen}"), cause, next));
    }
    let dist = options.dist.as_deref().map(dist::prepare).transpose()?;
    let admin_token = admin_token(options.admin_token_file.as_deref())?;
    let client_ca = ClientCa::prepare(options.tls_dir.as_deref())?;
    let tls = if options.http {
        None
    } else {
        let tls_dir = options.tls_dir.as_deref();
        Some(Tls::prepare(tls_dir, listen, &client_ca)?)
    };
    let listener = TcpListener::bind(options.listen).await;
    let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = bound.map_err(|cause| {
        let next = "Give --listen an address of this machine and a free port, or port 0.";
        Error::new(format!("listening on {}", options.listen), cause, next)
    })?;
    let (database, database_thread) = Database::open(options.database.as_deref())?;

    let address = reachable(address);
    let scheme = if options.http { "http" } else { "https" };
    let clock = Clock::default();
    let heartbeat_interval_secs = options.heartbeat_interval_secs.max(1);
    let app = Arc::new(App {
        url: format!("{scheme}://{address}"),
        origins: Origins::new(
            Origin::of_address(address, options.http),
            options.public_urls,
        ),
        dist,
        database,
        started_at: clock.steady(),
        clock,
        admin_token: TokenHash::of(&admin_token),
        faults: Faults::default(),
        heartbeat_interval_secs,
        rate: Rate::new(heartbeat_interval_secs),
        trusted_proxies: options.trusted_proxies,
        client_ca,
        limits: options.limits,
    });
    let server = Server {
        app: Arc::clone(&app),
        router: router(Arc::clone(&app)),
        tls: tls
            .as_ref()
            .map(|tls| TlsAcceptor::from(Arc::clone(&tls.config))),
    };
    let (stop, stopped) = watch::channel(());
    Ok(Hub {
        tls,
        admin_token,
        app,
        stop,
        server: tokio::spawn(server.run(listener, stopped)),
        database: database_thread,
    })
}

impl Hub {
    /// The hub's address, such as `https://127.0.0.1:41234`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.app.url
    }

    /// The file with the CA's certificate; `None` on plain HTTP.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        self.tls.as_ref().map(|tls| tls.ca_file.as_path())
    }

    /// `sha256:` and the hash of the CA's public key (SPKI DER); `None` on plain HTTP.
    #[must_use]
    pub fn ca_pin(&self) -> Option<&str> {
        self.tls.as_ref().map(|tls| tls.ca_pin.as_str())
    }

    /// The bearer token of the operator's calls.
    #[must_use]
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// Puts the hub's clock forward, for instance to let a token expire.
    pub fn advance_clock(&self, by: Duration) {
        self.app.clock.advance(by);
    }

    /// Sets the hub's time of day forward, or back where it is negative, while no time passes: as an
    /// operator does, or NTP.
    pub fn set_clock_by(&self, millis: i64) {
        self.app.clock.set_by(millis);
    }

    /// Ends the hub: requests under way are answered, the database's file is closed, and
    /// what was temporary is removed.
    pub async fn stop(self) {
        drop(self.stop);
        let _ = self.server.await;
        // The last way to the database's thread: without it the thread ends.
        drop(self.app);
        let database = self.database;
        let _ = tokio::task::spawn_blocking(move || database.join()).await;
    }
}

/// The address as a client on this machine would write it.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The token in the file, a fresh one that is written there, or just a fresh one.
fn admin_token(file: Option<&Path>) -> Result<String, Error> {
    let fresh = || {
        let next = "Start again.";
        fresh_token(TokenKind::Admin)
            .map_err(|cause| Error::new("making the admin token", cause, next))
    };
    let Some(file) = file else { return fresh() };
    let failed = |cause: &dyn std::fmt::Display| {
        let next = "Give --admin-token-file a path that this user may read or make; it holds \
                    one line of 16 or more visible characters.";
        Error::new(
            format!("the admin token in {}", file.display()),
            cause,
            next,
        )
    };
    match fs::read_to_string(file) {
        Ok(text) => {
            let token = text.trim();
            if token.len() >= 16 && token.bytes().all(|byte| byte.is_ascii_graphic()) {
                Ok(token.to_owned())
            } else {
                Err(failed(&"it is too short, or not one word"))
            }
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            let token = fresh()?;
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(file)
                .and_then(|mut made| writeln!(made, "{token}"))
                .map_err(|cause| failed(&cause))?;
            Ok(token)
        }
        Err(cause) => Err(failed(&cause)),
    }
}
