//! The parts of the agent that all dialects share.
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
pub mod token;
pub mod token_source;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
