//! A hub that loses its database and keeps its keys.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

use mock_hub::Options;
use serde_json::{Value, json};

use super::{TestHub, until};

/// The ports of these hubs, below those that the kernel gives to clients: the port of a stopped hub stays free.
const PORTS: u16 = 20_000;

/// A hub that can be stopped and started again at the same address, with its keys and without its database.
pub(crate) struct LostHub {
    folder: tempfile::TempDir,
    address: SocketAddr,
    hub: Option<TestHub>,
}

impl LostHub {
    pub(crate) fn new() -> Self {
        let mut lost = Self {
            folder: tempfile::tempdir().unwrap(),
            address: free_address(),
            hub: None,
        };
        lost.start();
        lost
    }

    pub(crate) fn hub(&self) -> &TestHub {
        self.hub.as_ref().unwrap()
    }

    /// Returns the path of the database's file.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("hub.db")
    }

    pub(crate) fn stop(&mut self) {
        self.hub = None;
        // A process that another thread starts has the hub's locks until it runs its own program.
        for name in ["hub.db", "revocations"] {
            let file = fs::File::open(self.folder.path().join(name)).unwrap();
            until("a free lock", || file.try_lock().is_ok());
            file.unlock().unwrap();
        }
    }

    pub(crate) fn start(&mut self) {
        let file = |name: &str| self.folder.path().join(name);
        self.hub = Some(TestHub::with(Options {
            listen: self.address,
            tls_dir: Some(file("tls")),
            database: Some(self.database()),
            receipt_keys: vec![file("receipt.pem")],
            revocations: Some(file("revocations")),
            heartbeat_interval_secs: 1,
            ..Options::default()
        }));
    }

    /// Starts the hub again, without its database.
    pub(crate) fn lose(&mut self) {
        self.stop();
        for name in ["hub.db", "hub.db-wal", "hub.db-shm"] {
            let _ = fs::remove_file(self.folder.path().join(name));
        }
        self.start();
        assert!(self.hub().agents().is_empty());
    }

    /// Opens the readmission.
    pub(crate) fn open(&self) -> Value {
        let door = json!({"open_for_secs": 3600, "max_agents": 1000});
        self.hub().post("readmission", door)
    }
}

/// Returns an address that nobody listens on, another one at each call.
pub(crate) fn free_address() -> SocketAddr {
    static CALLS: AtomicU16 = AtomicU16::new(0);
    // Other test processes run at the same time.
    let first = (std::process::id() % 100) as u16 * 100;
    loop {
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let port = PORTS + first.wrapping_add(call) % 10_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
