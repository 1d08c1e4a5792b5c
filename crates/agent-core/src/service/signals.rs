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

/// The event that a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalEvent {
    /// The service stops.
    Stop,
    /// The service reads its configuration again.
    Reload,
}

/// Runs `work` and returns its result, or `None` when a signal stops the service first.
///
/// # Errors
/// The error of `work`.
pub async fn until_stopped<T>(work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        biased;
        () = signals.stop() => Ok(None),
        done = work => done.map(Some),
    }
}

/// Waits for a signal that stops a command.
///
/// # Errors
/// [`ErrorId::Internal`] when the system does not deliver signals.
pub async fn stop_signal() -> Result<nix::sys::signal::Signal> {
    use nix::sys::signal::Signal;
    let mut signals = Signals::listen()?;
    let Some(streams) = &mut signals.0 else {
        return pending().await;
    };
    Ok(tokio::select! {
        _ = streams.terminate.recv() => Signal::SIGTERM,
        _ = streams.interrupt.recv() => Signal::SIGINT,
    })
}

impl Signals {
    /// Listens for signals from now on.
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

    /// Waits for the next signal.
    pub(super) async fn event(&mut self) -> SignalEvent {
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

    /// Waits for a signal that stops the service. Other signals stay pending.
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
