//! What must hold of the parsers, whatever bytes they are given: a function a target.
//!
//! Each panics when it does not hold. `cargo xtask test fuzz` runs each a bounded number of times
//! on libFuzzer, CONTRIBUTING.md has the long run. `seeds/TARGET/` is what each starts from.

mod agent_toml;
mod certificates;
mod env_file;
mod hub_reply;
mod hub_requests;
mod last_words;
mod machine;
mod network;
mod own_files;
mod plain;
mod responses;
mod scrub;
mod settings;

pub use agent_toml::agent_toml;
pub use certificates::certificates;
pub use env_file::env_file;
pub use hub_reply::hub_reply;
pub use hub_requests::{enrolment, host_header, signature};
pub use last_words::last_words;
pub use machine::machine;
pub use network::{cidr, x_forwarded_for};
pub use own_files::own_files;
pub use plain::{os_release, retry_after, token};
pub use responses::responses;
pub use scrub::scrub;
pub use settings::{network_settings, settings};

/// The input in parts, which lines of `---` divide. Missing parts are empty.
fn parts<const N: usize>(bytes: &[u8]) -> [String; N] {
    let text = String::from_utf8_lossy(bytes);
    let mut given = text.splitn(N, "\n---\n");
    std::array::from_fn(|_| given.next().unwrap_or_default().to_owned())
}
