//! A monsys hub for tests, and for developers to run by hand.
//!
//! This crate has the [`hub`] of monsys, and beside it:
//!
//! - faults on request (`faults`): responses that are late, replaced, changed, cut, or lost after
//!   the commit;
//! - three other enrolment systems (`dialect`): RavenXcope, Mimir and LyftData;
//! - the program `mock-hub` ([`cli`]).
//!
//! ```no_run
//! # async fn example() -> Result<(), mock_hub::Error> {
//! let hub = mock_hub::start(mock_hub::Options::default()).await?;
//! println!("{} with the CA in {:?}", hub.url(), hub.ca_file());
//! hub.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! `start` hands all of it to the hub as a [`hub::Extension`]: the tables of the dialects, the CA of
//! the client certificates, and the `routes`, around which `faults` is a layer. A dialect is one file
//! or folder, and one entry in `dialect.rs`.

pub mod cli;
mod client_ca;
mod dialect;
mod faults;
mod routes;
mod start;
mod state;

#[doc(hidden)]
pub use hub::Limits;
pub use hub::{BadCidr, BadOrigin, Cidr, Error, Hub, Options, Origin};
pub use start::start;
