//! A dialect as small as one can be: a bearer secret, exchanged for a JSON token, written to one file.
//!
//! The crate shows what a dialect takes, and a test enrols a host with it (`tests/example_dialect/`). It is not part
//! of the agent that ships: only the feature `example-dialect` lists it. The system is invented:
//!
//! - Proof: `POST /v1/tokens` with `Authorization: Bearer SECRET` and `{"hostname": …}`.
//! - Credential: `{"token": …}` of the response. The server answers a host name that it knows with the same
//!   token, so a lost response costs nothing.
//! - Sink: `/etc/example/token.json`, 0600, written atomically.
//!
//! ```
//! assert_eq!(dialect_example::DESCRIPTOR.name, "example");
//! ```

mod dialect;
mod exchange;
mod host;

pub use dialect::DESCRIPTOR;
