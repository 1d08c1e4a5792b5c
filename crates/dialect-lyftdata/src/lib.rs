//! `LyftData`: an HMAC of a shared secret and a nonce, exchanged for a worker's id and an API key,
//! put into two files of the jobs directory.
//!
//! The secret itself never travels. The order of writes: what is asked for, *exchange*, what was
//! confirmed (both, in one file), key, id, and the file goes. So a crash after the answer is ended
//! by the next run. An answer that is lost before cannot be asked for again: to the hub the name is
//! taken then, which it says, and so no second worker is made.
//!
//! Source: `LyftData`'s "Worker Auto Enrollment". Fields of the enrolment are the contract's.

mod dialect;
mod exchange;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod lyftdata;
mod report;
mod settings;

pub use dialect::DESCRIPTOR;
