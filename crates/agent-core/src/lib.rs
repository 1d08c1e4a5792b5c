//! The parts of the agent that all dialects share: a secret comes in, facts are gathered, one exchange with the hub
//! turns the secret into a credential, and the credential is written so that no crash can lose it.
//!
//! The crate names no dialect and no product. A dialect is a crate above this one: it implements
//! [`enrolment::Dialect`] and [`enrolment::Exchange`], and exports one [`enrolment::Descriptor`].
//!
//! From the top down: [`service`] sends heartbeats, [`enrolment`] is the workflow, [`hub`] the only HTTP client,
//! [`facts`] describes the host, [`settings`] and [`token_source`] resolve what the operator gave, [`environment`] is
//! the only access to the outside, and [`store`] the only writer of files.
//!
//! A program, or a test, gives the workflow an environment of its own:
//!
//! ```
//! use agent_core::environment::Environment;
//! use agent_core::flags::Flags;
//! use agent_core::settings::Settings;
//!
//! # fn main() -> agent_core::error::Result<()> {
//! let environment = Environment::real([])
//!     .with_root("/nonexistent")
//!     .with_variables([("MONSYS_HUB_URL", "https://hub.example.com")]);
//! let settings = Settings::resolve(&Flags::default(), &environment)?;
//! assert_eq!(settings.hub_url.value.to_string(), "https://hub.example.com");
//! assert_eq!(settings.hub_url.source.to_string(), "MONSYS_HUB_URL");
//! # Ok(())
//! # }
//! ```

pub mod blocking;
pub mod boxed;
pub mod ca_copy;
pub mod check;
pub mod clock;
pub mod cloud_init;
pub mod enrolment;
pub mod environment;
pub mod error;
pub mod escape;
pub mod facts;
pub mod flags;
pub mod hex;
pub mod hub;
pub mod inserted;
pub mod pem;
pub mod plain;
pub mod quoted;
pub mod redact;
pub mod scrub;
pub mod service;
pub mod settings;
pub mod sourced;
pub mod store;
pub mod tags;
pub mod text;
pub mod tls_words;
pub mod token;
pub mod token_source;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
