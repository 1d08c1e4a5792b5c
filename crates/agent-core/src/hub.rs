//! The host's side of the hub. Only [`client`] sends HTTP requests. Each dialect has one file with the
//! content of its requests and responses.

pub mod client;
pub mod optional;
pub mod resolver;
pub mod response;
pub mod retry;
mod timeouts;
pub mod tls;
mod tls_error;
mod transport_error;
