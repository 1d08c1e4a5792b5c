//! A hub from start to stop.

use crate::admin_token;
use crate::app::App;
use crate::clock::{Clock, Millis};
use crate::database::Database;
use crate::dist;
use crate::error::Error;
use crate::extension::Extension;
use crate::options::Options;
use crate::origin::{Origin, Origins};
use crate::rate_limit::RateLimiter;
use crate::readmission;
use crate::receipt_key::ReceiptKeys;
use crate::revocations::{self, Completeness, RevocationFile};
use crate::routes;
use crate::secret::TokenHash;
use crate::server::Server;
use crate::silence;
use crate::silence_schedule::Schedule;
use crate::tls::Tls;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A running hub. [`Hub::stop`] ends it and waits; dropping a hub ends it in the background.
pub struct Hub {
    tls: Option<Tls>,
    admin_token: String,
    app: Arc<App>,
    stop: watch::Sender<()>,
    server: JoinHandle<()>,
    silence_worker: JoinHandle<()>,
    database: thread::JoinHandle<()>,
}

/// Starts a hub on the current tokio runtime. The hub answers as soon as this returns.
pub async fn start(options: Options, extension: Extension) -> Result<Hub, Error> {
    let listen = options.listen.ip();
    if options.http && !listen.is_loopback() {
        let hint = "leave out --http, or listen on 127.0.0.1 or [::1]";
        let cause = "tokens would cross the network unencrypted";
        return Err(Error::new(
            format!("serving plain HTTP on {listen}"),
            cause,
            hint,
        ));
    }
    let dist = options.dist.as_deref().map(dist::prepare).transpose()?;
    let admin_token = admin_token::load_or_create(options.admin_token_file.as_deref())?;
    let tls = if options.http {
        None
    } else {
        let tls_dir = options.tls_dir.as_deref();
        Some(Tls::prepare(
            tls_dir,
            listen,
            extension.client_certificates,
        )?)
    };
    let clock = Clock::default();
    let (database, database_thread) =
        Database::open(options.database.as_deref(), &extension.tables)?;
    let (receipt_keys, revocations) = restore(&options, &database, clock.now()).await?;
    let listener = TcpListener::bind(options.listen).await;
    let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = bound.map_err(|cause| {
        let hint = "give --listen an address of this machine and a free port, or port 0";
        Error::new(format!("listening on {}", options.listen), cause, hint)
    })?;

    let address = reachable(address);
    let scheme = if options.http { "http" } else { "https" };
    let heartbeat_interval_secs = options.heartbeat_interval_secs.max(1);
    let app = Arc::new(App {
        url: format!("{scheme}://{address}"),
        origins: Origins::new(
            Origin::of_address(address, options.http),
            options.public_urls,
        ),
        dist,
        database,
        silence: Schedule::new(
            clock.steady(),
            options.integrity_check_secs,
            Millis::from(heartbeat_interval_secs) * 1000,
        ),
        clock,
        admin_token: TokenHash::of(&admin_token),
        heartbeat_interval_secs,
        receipt_keys,
        revocations,
        rate_limiter: RateLimiter::new(heartbeat_interval_secs),
        trusted_proxies: options.trusted_proxies,
        limits: options.limits,
    });
    let started_at = app.clock.steady();
    app.database
        .queue(move |savepoint| silence::forget_the_future(savepoint, started_at));
    let extended = (extension.routes)(&app, routes::own(&app));
    let server = Server {
        app: Arc::clone(&app),
        router: routes::served(&app, extended),
        tls: tls
            .as_ref()
            .map(|tls| TlsAcceptor::from(Arc::clone(&tls.config))),
    };
    let (stop, stopped) = watch::channel(());
    Ok(Hub {
        tls,
        admin_token,
        silence_worker: tokio::spawn(silence::work(Arc::clone(&app), stopped.clone())),
        app,
        stop,
        server: tokio::spawn(server.run(listener, stopped)),
        database: database_thread,
    })
}

/// The receipt keys and the file of revocations.
type Restored = (Option<Arc<ReceiptKeys>>, Option<RevocationFile>);

/// Loads the receipt keys, and applies the file of revocations to the database.
async fn restore(options: &Options, database: &Database, now: Millis) -> Result<Restored, Error> {
    let path = options.revocations.as_deref();
    let has_entries = revocations::has_entries(path);
    let keys = ReceiptKeys::load(&options.receipt_keys, has_entries)?.map(Arc::new);
    let opened = match (path, &keys) {
        (Some(path), Some(keys)) => Some(RevocationFile::open(path, Arc::clone(keys), now)?),
        (Some(path), None) => {
            return Err(Error::new(
                format!("opening the file of revocations {}", path.display()),
                "its lines are signed by the receipt key, and none is given",
                "give --receipt-key too",
            ));
        }
        (None, _) => None,
    };
    let (file, entries, is_new) = opened.map_or((None, Vec::new(), false), |opened| {
        (Some(opened.file), opened.entries, opened.is_new)
    });
    let completeness = file
        .as_ref()
        .map_or(Completeness::Lost, RevocationFile::completeness);
    let failed = |cause: &dyn std::fmt::Display| {
        let hint = "read the log above; free the disk if it is full, and start the hub again";
        Error::new("applying the revocations to the database", cause, hint)
    };
    let missing = database
        .transact(move |savepoint| {
            readmission::shut_after_loss(savepoint, completeness, is_new)?;
            revocations::apply(savepoint, &entries)
        })
        .await
        .map_err(|refusal| failed(&refusal.message()))?;
    if let Some(file) = &file {
        file.append(&missing, now).map_err(|cause| failed(&cause))?;
    }
    Ok((keys, file))
}

impl Hub {
    /// Returns the hub's address, such as `https://127.0.0.1:41234`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.app.url
    }

    /// Returns the file with the CA's certificate; `None` on plain HTTP.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        self.tls.as_ref().map(|tls| tls.ca_file.as_path())
    }

    /// Returns `sha256:` and the hash of the CA's public key (SPKI DER); `None` on plain HTTP.
    #[must_use]
    pub fn ca_pin(&self) -> Option<&str> {
        self.tls.as_ref().map(|tls| tls.ca_pin.as_str())
    }

    /// Returns the bearer token of the operator's calls.
    #[must_use]
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// Advances the hub's clock, for instance to let a token expire. A check for silent hosts that
    /// becomes due runs before any later request.
    pub fn advance_clock(&self, by: Duration) {
        self.app.clock.advance(by);
        silence::check_if_due(&self.app);
    }

    /// Sets the hub's time of day forward by `millis`, or back where that is negative, while no time
    /// passes: as an operator does, or NTP.
    pub fn set_clock_by(&self, millis: i64) {
        self.app.clock.set_by(millis);
    }

    /// Ends the hub: requests under way are answered, the database's file is closed, and temporary
    /// files are removed.
    pub async fn stop(self) {
        drop(self.stop);
        let _ = self.server.await;
        let _ = self.silence_worker.await;
        // The last sender to the database's thread: without it the thread ends.
        drop(self.app);
        let database = self.database;
        let _ = tokio::task::spawn_blocking(move || database.join()).await;
    }
}

/// Returns the address as a client on this machine would write it.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
