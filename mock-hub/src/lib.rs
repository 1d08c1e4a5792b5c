//! A monsys hub for tests, and for developers to run by hand.
//!
//! It keeps the whole of the hub's side of the bargain: hosts enrol into it over TLS with a
//! shared secret, an operator mints, watches and revokes those secrets, and every promise of
//! the protocol (exactly once, never past `max_uses`, one 401 for every cause) holds as it
//! would in earnest. What it has beyond a real hub are faults on request.
//!
//! ```no_run
//! # async fn example() -> Result<(), mock_hub::Error> {
//! let hub = mock_hub::start(mock_hub::Options::default()).await?;
//! println!("{} trusted by {:?}", hub.url(), hub.ca_file());
//! hub.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! How a request goes: `server` accepts it, within the limits of `capacity`, and finds its `source`; `routes` leads it through
//! `request` (limits, who asks, what the body means) to a handler, past `faults` if one is
//! due. The handlers are `enrol`, `register` and `heartbeat` for hosts, `tokens`, `agents` and
//! `integrity` for the operator, `dist` for who installs, and `dialect` for the hosts and operators
//! of other systems. Each does its work, all or nothing,
//! on the `database`'s own thread, and answers once that is on disk. `rules` and `rate` decide
//! which heartbeats are refused, and which doubted.

mod agent_call;
mod agents;
mod capacity;
mod cidr;
pub mod cli;
mod client_ca;
mod clock;
mod connection;
mod database;
mod dialect;
mod dist;
mod enrol;
mod error;
mod faults;
#[doc(hidden)]
pub mod fuzzing;
mod heartbeat;
mod host;
mod hub;
mod integrity;
mod origin;
mod rate;
mod refusal;
mod register;
mod request;
mod routes;
mod rules;
mod secret;
mod server;
mod signature;
mod source;
mod tags;
mod tls;
mod tokens;

#[doc(hidden)]
pub use capacity::Limits;
pub use cidr::{BadCidr, Cidr};
pub use error::Error;
pub use hub::{Hub, Options, start};
pub use origin::{BadOrigin, Origin};

use hub::App;
