//! The monsys hub as a dialect of the agent: enrolment, rotation, unenrolment and signed heartbeats.
//!
//! # Protocol
//!
//! The host makes an Ed25519 key, which is its identity at the hub. An enrolment sends the host's facts,
//! tags, role and public key to `POST /api/v1/agents/enrol`, with an enrolment token as the bearer. The
//! body is signed: `X-Monsys-Signature` is the signature of the SHA-256 of the body. The hub pins the key
//! and responds with an agent id and a per-agent token, which the host stores in `agent.toml`. Heartbeats,
//! registrations and the unenrolment carry the per-agent token and a signature by the same key.
//!
//! # Order of writes
//!
//! 1. `state.json` names the machine, then the key is written, and both are synced to the disk.
//! 2. The request is sent, and sent again until the hub accepts or rejects it.
//! 3. `state.json` and `agent-id` are written, and `agent.toml` with the credential last.
//!
//! A run can be killed between any two steps. The key is on the disk before the first request, so the next
//! run sends the same key, and the hub responds with the same agent and spends no further use. The writes
//! of a new key beside an old one, of a rotation and of a forced enrolment are in `credential_store.rs`,
//! and those of an unenrolment in `unenrol.rs`.
//!
//! # Source
//!
//! The monsys security architecture and the contract of the hub; `docs/protocol.md` has each request.
//!
//! # Example
//!
//! ```
//! use agent_core::environment::Environment;
//! use agent_core::flags::Flags;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let root = tempfile::tempdir()?;
//! let environment = Environment::real([])
//!     .with_root(root.path())
//!     .with_variables([("MONSYS_HUB_URL", "https://hub.example")]);
//! let flags = Flags::default();
//! let host = dialect_monsys::DESCRIPTOR.open(&flags, &environment)?;
//! assert_eq!(host.settings().hub_url.value.to_string(), "https://hub.example");
//! assert!(!host.is_enrolled()?);
//! # Ok(())
//! # }
//! ```

mod checks;
mod connection_settings;
mod credential_store;
mod defer;
mod dialect;
mod exchange;
#[doc(hidden)]
pub mod fuzzing;
mod heartbeat_lock;
mod host_state;
mod hub_check;
mod hub_clock;
pub mod identity;
mod monsys;
mod paths;
mod plan;
mod preview;
pub mod receipt;
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
