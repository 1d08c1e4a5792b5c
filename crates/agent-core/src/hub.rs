//! The hub, seen from the host. HTTP leaves through [`client`] alone; what is said in it is the
//! business of one file a dialect.

pub mod client;
pub mod response;
pub mod retry;
pub mod tls;
mod transport_error;
