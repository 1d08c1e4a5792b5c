//! The monsys hub: a Bearer token and a signed body, exchanged for a per-agent token, put into
//! `agent.toml`.
//!
//! What makes it safe to be killed anywhere: the host's key is on the disk before the first
//! request, and to the hub that key *is* the host. Whoever comes again with the same key gets the
//! same agent and spends no further use.

mod checks;
mod credential_store;
mod defer;
mod dialect;
mod exchange;
#[doc(hidden)]
pub mod fuzzing;
mod heartbeat_lock;
mod host_state;
pub mod identity;
mod monsys;
mod paths;
mod plan;
mod preview;
mod recovery;
mod registration;
mod rotation;
pub mod service;
pub mod state;
mod status;
mod step;
mod takeover;
mod unenrol;
pub mod wire;

pub use defer::{Deferred, defer, defer_under};
pub use dialect::DESCRIPTOR;
pub use paths::{HostFiles, Paths, files};
pub use rotation::{Rotation, rotate_key, rotate_token};
pub use takeover::{is_foreign, take_over};
pub use unenrol::{UnenrolOutcome, Unenrolment, unenrol};
