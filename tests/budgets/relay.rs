//! A relay between the agent and the hub that counts connections and round trips.
//!
//! It forwards at once what the agent sends, and the hub's part only when the agent sends nothing more
//! before it receives something: so each forward of the hub's part is a round trip that the agent waits
//! for, and not one that a quick hub hides.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// An agent that has sent nothing for so long waits for the hub.
const QUIET: Duration = Duration::from_millis(150);
/// The pause between two looks at both sides.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    forwards: AtomicU64,
}

pub(crate) struct Relay {
    pub(crate) url: String,
    counts: Arc<Counts>,
}

impl Relay {
    /// Listens on loopback, in the network of this thread, for the hub at `https://ADDRESS:PORT`.
    pub(crate) fn to(url: &str) -> Self {
        let hub = url.trim_start_matches("https://").trim_end_matches('/');
        let hub = hub.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let counts = Arc::new(Counts::default());
        let relay = Self {
            url: format!("https://{}", listener.local_addr().unwrap()),
            counts: Arc::clone(&counts),
        };
        thread::spawn(move || {
            for agent in listener.incoming() {
                counts.connections.fetch_add(1, Ordering::Relaxed);
                let (hub, counts) = (TcpStream::connect(&hub).unwrap(), Arc::clone(&counts));
                // A side that breaks off shows in the agent's exit code.
                thread::spawn(move || between(agent.unwrap(), hub, &counts));
            }
        });
        relay
    }

    pub(crate) fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// One for each connection's own handshake, and each time that the agent had to wait.
    pub(crate) fn round_trips(&self) -> u64 {
        self.connections() + self.counts.forwards.load(Ordering::Relaxed)
    }
}

fn between(mut agent: TcpStream, mut hub: TcpStream, counts: &Counts) -> std::io::Result<()> {
    for side in [&agent, &hub] {
        side.set_nodelay(true)?;
        side.set_nonblocking(true)?;
    }
    let mut pending = Vec::new();
    let mut last = Instant::now();
    loop {
        if let Some(sent) = received(&mut agent)? {
            if sent.is_empty() {
                return Ok(());
            }
            hub.write_all(&sent)?;
            last = Instant::now();
        }
        if let Some(sent) = received(&mut hub)? {
            if sent.is_empty() {
                return agent.write_all(&pending);
            }
            pending.extend(sent);
        }
        if !pending.is_empty() && last.elapsed() >= QUIET {
            counts.forwards.fetch_add(1, Ordering::Relaxed);
            agent.write_all(&pending)?;
            pending.clear();
            last = Instant::now();
        }
        thread::sleep(PAUSE);
    }
}

/// The bytes that have come in, nothing of them at the end; `None` if there are none yet.
fn received(side: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; 16 * 1024];
    match side.read(&mut bytes) {
        Ok(count) => {
            bytes.truncate(count);
            Ok(Some(bytes))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
