//! The stream of a connection under HTTP, which can be cut at a byte.

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

/// A response extension that makes the server break the connection. The hub itself never sets
/// it; a program on top may, to inject a fault.
#[derive(Clone, Copy, Debug)]
pub enum Disconnect {
    /// Resets the connection (TCP RST) instead of sending the response.
    Reset,
    /// Sends this many bytes of the body, and then closes the connection.
    AfterBytes(usize),
}

/// The TCP stream of a connection. If it is dropped after [`Control::reset`], the other side gets
/// an RST, and no `close_notify` of TLS.
pub(crate) struct Stream {
    tcp: TcpStream,
    control: Arc<Control>,
}

/// The control of a connection, shared by the server and the stream.
pub(crate) struct Control {
    activity: Arc<Activity>,
    reset: AtomicBool,
    /// The body has no further bytes: the next flush that succeeds is the last.
    close_when_flushed: AtomicBool,
    closed: Notify,
}

impl Control {
    fn new(activity: Arc<Activity>) -> Self {
        Self {
            activity,
            reset: AtomicBool::default(),
            close_when_flushed: AtomicBool::default(),
            closed: Notify::default(),
        }
    }

    /// Returns the record of the client's activity.
    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Ends the connection with an RST.
    pub(crate) fn reset(&self) {
        self.reset.store(true, Ordering::Release);
        self.closed.notify_one();
    }

    /// Resolves when the connection is to be dropped.
    pub(crate) async fn closed(&self) {
        self.closed.notified().await;
    }
}

impl Stream {
    pub(crate) fn new(tcp: TcpStream, activity: Arc<Activity>) -> (Self, Arc<Control>) {
        let control = Arc::new(Control::new(activity));
        let stream = Self {
            tcp,
            control: Arc::clone(&control),
        };
        (stream, control)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.control.reset.load(Ordering::Acquire) {
            // Without linger, closing discards what is unsent and resets the connection.
            let _ = self.tcp.set_zero_linger();
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.control.activity.touch();
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        if written.is_ready() {
            self.control.activity.touch();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // HTTP and TLS flush downwards, each after its own buffer: no bytes are left above this flush.
        let flushed = Pin::new(&mut self.tcp).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(())))
            && self.control.close_when_flushed.load(Ordering::Acquire)
        {
            self.control.closed.notify_one();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Makes a body that declares its full length and yields only the first bytes.
pub(crate) fn truncated(full: &Bytes, at: usize, control: Arc<Control>) -> Body {
    Body::new(Truncated {
        beginning: Some(full.slice(..at.min(full.len()))),
        declared: full.len() as u64,
        control,
    })
}

struct Truncated {
    beginning: Option<Bytes>,
    declared: u64,
    control: Arc<Control>,
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
        self.control
            .close_when_flushed
            .store(true, Ordering::Release);
        // No waker is needed: the connection is dropped once all is flushed.
        Poll::Pending
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.declared)
    }
}
