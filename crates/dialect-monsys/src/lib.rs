//! The monsys hub: a Bearer token and a signed body, exchanged for a per-agent token, put into
//! `agent.toml`.
//!
//! What makes it safe to be killed anywhere: the host's key is on the disk before the first
//! request, and to the hub that key *is* the host. Whoever comes again with the same key gets the
//! same agent and spends no further use.

mod checks;
mod defer;
mod dialect;
#[doc(hidden)]
pub mod fuzzing;
mod heartbeat_lock;
pub mod identity;
mod introduction;
mod leaving;
mod monsys;
mod paths;
mod persist;
mod plan;
mod preview;
mod rotation;
mod run;
pub mod service;
mod settling;
mod standing;
pub mod state;
mod status;
mod step;
mod takeover;
pub mod wire;

pub use defer::{Deferred, defer, defer_under};
pub use dialect::DESCRIPTOR;
pub use leaving::{Leaving, Parting, unenrol};
pub use paths::{HostFiles, Paths, files};
pub use rotation::{Rotation, rotate_key, rotate_token};
pub use takeover::{is_foreign, take_over};
