//! Mimir: an enrollment secret and a request for a certificate, exchanged for a client certificate,
//! put beside its key.
//!
//! What makes it safe to be killed anywhere: the key is on the disk before the first request, and
//! every later try asks for that same key. A server that knows a key again spends no second use.

mod certificate;
mod dialect;
mod exchange;
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod key;
mod mimir;
mod renewal;
mod settings;
mod status;
mod wire;

pub use dialect::DESCRIPTOR;
