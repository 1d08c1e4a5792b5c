//! Properties of the parsers for any input: one function for each target.
//!
//! Each function panics if its property is violated. `cargo xtask test fuzz` runs each a bounded number
//! of times on libFuzzer; CONTRIBUTING.md describes the long run. `seeds/TARGET/` has the first inputs.

mod agent_files;
mod agent_toml;
mod certificates;
mod env_file;
mod hub_reply;
mod hub_requests;
mod machine;
mod network;
mod plain;
mod responses;
mod scrub;
mod settings;
mod token_command_stderr;

pub use agent_files::agent_files;
pub use agent_toml::agent_toml;
pub use certificates::certificates;
pub use env_file::env_file;
pub use hub_reply::hub_reply;
pub use hub_requests::{enrolment, host_header, receipt, signature};
pub use machine::machine;
pub use network::{cidr, x_forwarded_for};
pub use plain::{os_release, retry_after, token};
pub use responses::responses;
pub use scrub::scrub;
pub use settings::{network_settings, settings};
pub use token_command_stderr::token_command_stderr;

/// Splits the input at lines of `---`. Missing parts are empty.
fn parts<const N: usize>(bytes: &[u8]) -> [String; N] {
    let text = String::from_utf8_lossy(bytes);
    let mut found = text.splitn(N, "\n---\n");
    std::array::from_fn(|_| found.next().unwrap_or_default().to_owned())
}
