//! SIGTERM and SIGINT stop the service, SIGHUP makes it read its configuration again.

use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Error, ErrorId, Result};

/// The signals that the service listens to.
#[derive(Debug, Default)]
pub(super) struct Signals(Option<Streams>);

#[derive(Debug)]
struct Streams {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalEvent {
    /// To end.
    Stop,
    /// To read the configuration again.
    Reload,
}

/// `work`, unless the service is told to stop first: then nothing.
///
/// # Errors
/// What `work` ends with.
pub async fn until_stopped<T>(work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        biased;
        () = signals.stop() => Ok(None),
        done = work => done.map(Some),
    }
}

impl Signals {
    /// Listens from now on.
    pub(super) fn listen() -> Result<Self> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Error::new(ErrorId::Internal, error.to_string()).about("listening for signals")
            })
        };
        Ok(Self(Some(Streams {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })))
    }

    /// Waits for any of them.
    pub(super) async fn wish(&mut self) -> SignalEvent {
        let Some(streams) = &mut self.0 else {
            return pending().await;
        };
        tokio::select! {
            biased;
            _ = streams.terminate.recv() => SignalEvent::Stop,
            _ = streams.interrupt.recv() => SignalEvent::Stop,
            _ = streams.hangup.recv() => SignalEvent::Reload,
        }
    }

    /// Waits until the service is to end; what else comes is for later.
    pub(super) async fn stop(&mut self) {
        let Some(streams) = &mut self.0 else {
            return pending().await;
        };
        tokio::select! {
            _ = streams.terminate.recv() => {}
            _ = streams.interrupt.recv() => {}
        }
    }
}
