//! A relay between a contender and the hub that counts connections, bytes and round trips.
//!
//! It hands on at once what the contender says, and what the hub says only when the contender has
//! nothing more to say before it hears something: so each time that it hands on is a round trip that
//! the contender really waits for, and not one that a quick hub hides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::error::{Context, Result};

/// Who has said nothing for so long waits for an answer.
const QUIET: Duration = Duration::from_millis(150);

/// What went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wire {
    pub(crate) connections: u64,
    /// One for each connection's own handshake, and each time that the contender had to wait.
    pub(crate) round_trips: u64,
    /// Of TLS, without the headers of TCP and IP.
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    answers: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// Dropping it closes it.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Listens on loopback, for the hub at `hub` (`127.0.0.1:PORT`).
    pub(crate) async fn to(hub: &str) -> Result<Self> {
        let what = || "a relay on loopback".to_owned();
        let hub: SocketAddr = hub.parse().context(what)?;
        let listener = TcpListener::bind("127.0.0.1:0").await.context(what)?;
        let address = listener.local_addr().context(what)?;
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let task = tokio::spawn(async move {
            while let Ok((contender, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let counts = Arc::clone(&shared);
                tokio::spawn(async move {
                    // A side that breaks off is what the contender's own exit code tells.
                    let _ = between(contender, hub, &counts).await;
                });
            }
        });
        Ok(Self {
            address,
            counts,
            task,
        })
    }

    /// What went through so far.
    pub(crate) fn wire(&self) -> Wire {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let connections = count(&self.counts.connections);
        Wire {
            connections,
            round_trips: connections + count(&self.counts.answers),
            sent: count(&self.counts.sent),
            received: count(&self.counts.received),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn between(
    mut contender: TcpStream,
    hub: SocketAddr,
    counts: &Counts,
) -> std::io::Result<()> {
    let mut hub = TcpStream::connect(hub).await?;
    contender.set_nodelay(true)?;
    hub.set_nodelay(true)?;
    let (mut said, mut answered) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut pending = Vec::new();
    let mut last = Instant::now();
    loop {
        tokio::select! {
            count = contender.read(&mut said) => {
                let count = count?;
                if count == 0 {
                    return Ok(());
                }
                counts.sent.fetch_add(count as u64, Ordering::Relaxed);
                hub.write_all(&said[..count]).await?;
                last = Instant::now();
            }
            count = hub.read(&mut answered) => {
                let count = count?;
                if count == 0 {
                    return contender.write_all(&pending).await;
                }
                pending.extend_from_slice(&answered[..count]);
            }
            () = sleep_until(last + QUIET), if !pending.is_empty() => {
                counts.answers.fetch_add(1, Ordering::Relaxed);
                counts.received.fetch_add(pending.len() as u64, Ordering::Relaxed);
                contender.write_all(&pending).await?;
                pending.clear();
                last = Instant::now();
            }
        }
    }
}
