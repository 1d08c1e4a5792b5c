//! `monsys-agent` brings a host into a fleet: a secret comes in, facts are gathered, one exchange
//! with the hub turns the secret into a credential, and the credential is written so that no crash
//! can lose it.
//!
//! The modules follow that sentence: [`settings`] and [`token`] are what comes in, [`facts`] and
//! [`identity`] what the host is, [`enrolment`] tells the story, a [`dialect`] knows the words, [`hub`]
//! speaks, [`store`] writes.
//! [`command`] is thin, and only [`world`] touches the outside.

pub mod cli;
pub mod cloud_init;
pub mod command;
pub mod core_dump;
pub mod dialect;
pub mod doctor;
pub mod enrolment;
pub mod error;
pub mod escape;
pub mod facts;
#[doc(hidden)]
pub mod fuzzing;
mod hex;
pub mod hub;
pub mod identity;
pub mod install;
pub mod limits;
pub mod log;
pub mod redact;
pub mod reference;
pub mod scrub;
pub mod service;
pub mod settings;
pub mod store;
pub mod tags;
mod text;
pub mod token;
pub mod token_source;
pub mod world;

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
