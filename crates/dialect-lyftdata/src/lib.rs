//! `LyftData` as a dialect of the agent: a shared secret, exchanged for a worker's id and API key.
//!
//! # Protocol
//!
//! An enrolment sends the worker's name, a nonce and an HMAC-SHA-256 of both to
//! `POST /api/workers/enroll`. The key of the HMAC is the shared secret, which is never sent. The server
//! responds with the worker's id and an API key. The agent writes both into the jobs directory, where the
//! worker, a program of `LyftData`, reads them. There are no heartbeats: the service of this dialect is the
//! worker.
//!
//! # Order of writes
//!
//! 1. `.monsys-enrol.json` in the jobs directory records the requested name.
//! 2. The request is sent, and sent again until the server accepts or rejects it.
//! 3. `.monsys-enrol.json` records the worker's id and API key together.
//! 4. The API key and the id are written into their files, and `.monsys-enrol.json` is removed.
//!
//! After a crash between steps 3 and 4, the next run writes the two files from the record. A response that
//! is lost before step 3 cannot be requested again: the server rejects the name as existing, so no second
//! worker is made. The error then names the lost request, and its hint how an admin frees the name.
//!
//! # Source
//!
//! `LyftData`'s documentation "Worker Auto Enrollment"; the fields of the request are the contract's
//! (section 7). `docs/dialects/lyftdata.md` has the request.
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
//!     .with_variables([("LYFTDATA_URL", "https://lyftdata.example")]);
//! let flags = Flags::default();
//! let host = dialect_lyftdata::DESCRIPTOR.open(&flags, &environment)?;
//! assert_eq!(host.settings().hub_url.value.to_string(), "https://lyftdata.example");
//! assert!(!host.is_enrolled()?);
//! # Ok(())
//! # }
//! ```

mod checks;
mod dialect;
mod exchange;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod lyftdata;
mod preview;
mod settings;
mod status;

pub use dialect::DESCRIPTOR;
