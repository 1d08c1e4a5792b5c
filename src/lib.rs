//! `monsys-agent` brings a host into a fleet: a secret comes in, facts are gathered, one exchange
//! with the hub turns the secret into a credential, and the credential is written so that no crash
//! can lose it.
//!
//! The modules follow that sentence: [`settings`] and [`token`] are what comes in, [`facts`] and
//! [`identity`] what the host is, [`enrolment`] tells the story, a [`dialect`] knows the words, [`hub`]
//! speaks, [`store`] writes.
//! [`command`] is thin, and only [`world`] touches the outside.

pub mod cli;
pub mod command;
pub mod core_dump;
pub mod dialects;
pub mod doctor;
#[doc(hidden)]
pub mod fuzzing;
pub mod install;
pub mod limits;
pub mod log;
pub mod reference;
