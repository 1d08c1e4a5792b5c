//! One heartbeat: its outcome, and the host that sends it.

use std::time::Duration;

use super::health::{Health, SaveReason};
use crate::error::{Error, Result};

/// The outcome of a try.
#[derive(Debug)]
pub enum HeartbeatOutcome {
    /// The hub accepted the heartbeat.
    Accepted,
    /// The heartbeat failed. The next one may succeed.
    Missed(HeartbeatFailure),
    /// No heartbeat was sent: the key or the credential is being changed.
    NotSent,
}

/// A heartbeat that failed.
#[derive(Debug)]
pub struct HeartbeatFailure {
    /// The error, with its cause and its hint.
    pub error: Error,
    /// Pause that the hub requested.
    pub retry_after: Option<Duration>,
    /// True when a retry would fail too, until an operator fixes the cause.
    pub is_refusal: bool,
}

/// The host whose heartbeats the service sends.
pub trait ServiceHost {
    /// Sends one heartbeat. An error ends the service.
    fn heartbeat(&mut self) -> impl Future<Output = Result<HeartbeatOutcome>>;
    /// Returns the longest pause until the next heartbeat, if the host has to act earlier.
    fn due_in(&self) -> Option<Duration> {
        None
    }
    /// Sends further data after an accepted heartbeat, if there is any.
    fn follow_up(&mut self) -> impl Future<Output = ()>;
    /// Returns the hub's interval.
    fn interval(&self) -> Duration;
    /// Returns the state of the service.
    fn health(&mut self) -> &mut Health;
    /// Writes the state into the health file.
    fn save(&mut self, reason: SaveReason);
    /// Returns whether the files of the host have changed since they were read.
    fn is_stale(&self) -> bool;
    /// Makes the next try read all files again.
    fn reload(&mut self);
    /// Describes the host in one line.
    fn describe(&self) -> String;
}
