//! One connection: the stream under HTTP, which a fault can cut at a byte.

use crate::capacity::Activity;
use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// The TCP stream of a connection. When it is dropped after a reset was asked for, the
/// other side gets an RST; TLS says no goodbye either.
pub(crate) struct Link {
    tcp: TcpStream,
    cord: Arc<Cord>,
}

/// What cuts a connection, shared by those who decide and the stream itself.
pub(crate) struct Cord {
    activity: Arc<Activity>,
    reset: AtomicBool,
    /// The body has given all that it will give: the next flush that succeeds is the last.
    cut_when_flushed: AtomicBool,
    severed: Notify,
}

impl Cord {
    fn new(activity: Arc<Activity>) -> Self {
        Self {
            activity,
            reset: AtomicBool::default(),
            cut_when_flushed: AtomicBool::default(),
            severed: Notify::default(),
        }
    }

    /// When the connection's client was last active.
    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Ends the connection with an RST.
    pub(crate) fn reset(&self) {
        self.reset.store(true, Ordering::Release);
        self.severed.notify_one();
    }

    /// Resolves when the connection is to be dropped.
    pub(crate) async fn severed(&self) {
        self.severed.notified().await;
    }
}

impl Link {
    pub(crate) fn new(tcp: TcpStream, activity: Arc<Activity>) -> (Self, Arc<Cord>) {
        let cord = Arc::new(Cord::new(activity));
        let link = Self {
            tcp,
            cord: Arc::clone(&cord),
        };
        (link, cord)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.cord.reset.load(Ordering::Acquire) {
            // Without linger, closing discards what is unsent and resets the connection.
            let _ = self.tcp.set_zero_linger();
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.cord.activity.touch();
        }
        read
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        if written.is_ready() {
            self.cord.activity.touch();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // HTTP and TLS flush downwards, each after all of its own: what comes through here
        // has nothing left above it.
        let flushed = Pin::new(&mut self.tcp).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(())))
            && self.cord.cut_when_flushed.load(Ordering::Acquire)
        {
            self.cord.severed.notify_one();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// A body that promises all of its length and gives only the first bytes.
pub(crate) fn truncated(whole: &Bytes, at: usize, cord: Arc<Cord>) -> Body {
    Body::new(Truncated {
        beginning: Some(whole.slice(..at.min(whole.len()))),
        promised: whole.len() as u64,
        cord,
    })
}

struct Truncated {
    beginning: Option<Bytes>,
    promised: u64,
    cord: Arc<Cord>,
}

impl HttpBody for Truncated {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(bytes) = self.beginning.take().filter(|bytes| !bytes.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        self.cord.cut_when_flushed.store(true, Ordering::Release);
        // Nobody wakes this: the connection is dropped once all is flushed.
        Poll::Pending
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.promised)
    }
}
