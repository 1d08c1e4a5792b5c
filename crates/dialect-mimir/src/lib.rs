//! Mimir as a dialect of the agent: an enrollment secret, exchanged for a client certificate.
//!
//! # Protocol
//!
//! The host makes an ECDSA key on P-256. An enrolment sends the enrollment secret, the host name and a
//! certificate request (PKCS#10) to `POST /api/v1/enroll`. The server responds with an agent id, a client
//! certificate and its CA. A second request, `GET /api/v1/agent/self`, is sent under the certificate and
//! proves that the server knows it. The service repeats that request each minute. It requests a new
//! certificate for the same key when two thirds of the lifetime are over.
//!
//! # Order of writes
//!
//! 1. `agent.json` names the machine, then the key is written, and both are synced to the disk.
//! 2. The request for a certificate is sent, and sent again until the server accepts or rejects it.
//! 3. `agent.json`, the CA and the certificate are written, in that order.
//! 4. The certificate is proved, and `agent.json` records the time.
//!
//! A run can be killed between any two steps. The key is on the disk before the first request, and each
//! later run requests a certificate for that key. A server that recognises the key spends no second use.
//! A certificate that is not proved yet is proved by the next run, without a secret.
//!
//! # Source
//!
//! Mimir's documentation of the enrollment; its paths and fields are the contract's. The requests are in
//! `docs/dialects/mimir.md`.
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
//!     .with_variables([("MIMIR_SERVER_URL", "https://mimir.example")]);
//! let flags = Flags::default();
//! let host = dialect_mimir::DESCRIPTOR.open(&flags, &environment)?;
//! assert_eq!(host.settings().hub_url.value.to_string(), "https://mimir.example");
//! assert!(!host.is_enrolled()?);
//! # Ok(())
//! # }
//! ```

mod certificate;
mod checks;
mod dialect;
mod exchange;
#[doc(hidden)]
pub mod fuzzing;
mod host_state;
mod key;
mod mimir;
mod preview;
mod renewal;
mod settings;
mod status;
mod wire;

pub use dialect::DESCRIPTOR;
