//! The options of a hub.

use crate::capacity::Limits;
use crate::cidr::Cidr;
use crate::origin::Origin;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The options of a hub. The default is a hub for one test: a free loopback port, HTTPS, and
/// nothing on disk that outlives the hub.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Plain HTTP instead of HTTPS, on loopback addresses only.
    pub http: bool,
    /// The directory of the CAs and the certificate; a temporary one if not given.
    pub tls_dir: Option<PathBuf>,
    /// The database's file, which one hub has open at a time; in memory if not given.
    pub database: Option<PathBuf>,
    /// The file with the admin token, created if it does not exist; a random token if not given.
    pub admin_token_file: Option<PathBuf>,
    /// The files of the receipt keys: the first signs and is created if it does not exist, all
    /// verify. Without one, the hub gives no receipts and readmits nobody.
    pub receipt_keys: Vec<PathBuf>,
    /// The file of revocations, created if it does not exist. It needs a receipt key.
    pub revocations: Option<PathBuf>,
    /// The folder of installer and packages to serve; none if not given.
    pub dist: Option<PathBuf>,
    /// The interval in seconds at which agents are to send heartbeats, at least 1. The rate limit
    /// of their calls follows from it.
    pub heartbeat_interval_secs: u32,
    /// The period in seconds of the check for silent hosts, at least 1.
    pub integrity_check_secs: u32,
    /// Addresses of the proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<Cidr>,
    /// The URLs that clients reach the hub at, beside its own address. The first is for clients
    /// whose `Host` header names none of them.
    pub public_urls: Vec<Origin>,
    /// Limits against slow and many clients. Tests alone choose other values.
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
            receipt_keys: Vec::new(),
            revocations: None,
            dist: None,
            heartbeat_interval_secs: 30,
            integrity_check_secs: 600,
            trusted_proxies: Vec::new(),
            public_urls: Vec::new(),
            limits: Limits::default(),
        }
    }
}
