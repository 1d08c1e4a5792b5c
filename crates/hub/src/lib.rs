//! The hub's side of monsys.
//!
//! Hosts enrol over TLS with a shared secret and get a credential of their own. An operator creates,
//! lists and revokes those secrets, and sees agents, their heartbeats and their anomalies. The hub
//! admits a host exactly once, never more hosts than `max_uses`, and answers one 401 for every
//! reason to reject a credential.
//!
//! ```no_run
//! # async fn example() -> Result<(), hub::Error> {
//! let hub = hub::start(hub::Options::default(), hub::Extension::default()).await?;
//! println!("{} with the CA in {:?}", hub.url(), hub.ca_file());
//! hub.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # How a request is served
//!
//! `server` accepts the connection within the limits of `capacity` and determines its `source`.
//! `routes` leads the request through [`body`] (limits of size and time) to a handler. Handlers of
//! hosts are `enrol`, `register`, `heartbeat` and `unenrol`; the last three share `agent_call`.
//! Handlers of the operator are `tokens`, `agents` and `integrity`; `dist` serves the installer.
//! `anomalies` records what the checks of a host's call find. The worker of `silence` finds hosts that
//! do not call.
//! `readmission` takes agents back by the `receipt` that enrol and register give them, and
//! `revocations` are what outlives the database beside the `receipt_key`.
//! [`request`] identifies the caller. Each handler does its work in one transaction on the thread of the
//! [`database`], and answers once that work is on disk.
//!
//! # A program on top
//!
//! A program hands its tables, routes and layers to [`start`] as an [`Extension`]. The hub names
//! none of them. `mock-hub` adds fault injection and three other enrolment systems that way.

mod admin_token;
mod agent_call;
mod agents;
mod anomalies;
mod app;
pub mod body;
pub mod ca;
mod capacity;
mod cidr;
pub mod clock;
pub mod connection;
pub mod database;
mod deleted_agents;
mod dist;
mod enrol;
mod error;
mod extension;
#[doc(hidden)]
pub mod fuzzing;
mod heartbeat;
mod host;
mod hub;
mod integrity;
pub mod labels;
mod options;
mod origin;
mod rate_limit;
mod readmission;
mod receipt;
mod receipt_key;
pub mod refusal;
mod register;
pub mod request;
mod revocations;
mod routes;
pub mod secret;
mod server;
mod signature;
mod silence;
mod silence_schedule;
mod source;
mod tls;
mod tokens;
mod unenrol;

pub use app::App;
pub use capacity::Limits;
pub use cidr::{BadCidr, Cidr};
pub use error::Error;
pub use extension::{ExtendRoutes, Extension};
pub use hub::{Hub, start};
pub use options::Options;
pub use origin::{BadOrigin, Origin};
