//! What `cargo xtask test hosts` has laid out before the tests begin.

use std::path::PathBuf;

/// A bootable Debian, by the name of its release. It is never written to.
pub(crate) fn tree(release: &str) -> PathBuf {
    folder("MONSYS_TEST_TREES").join(release)
}

/// The folder of a release: binaries, packages, checksums, install.sh.
pub(crate) fn dist() -> PathBuf {
    folder("MONSYS_TEST_DIST")
}

/// Where Ansible's programs are.
pub(crate) fn ansible() -> PathBuf {
    folder("MONSYS_TEST_ANSIBLE")
}

/// The agent as it is released for this machine.
pub(crate) fn program() -> PathBuf {
    let name = format!("monsys-agent-{}-linux-x86_64", env!("CARGO_PKG_VERSION"));
    dist().join(name)
}

/// Packages of the same tree that call themselves version 0.0.9.
pub(crate) fn older_packages() -> PathBuf {
    folder("MONSYS_TEST_OLDER")
}

fn folder(variable: &str) -> PathBuf {
    let folder = std::env::var_os(variable);
    folder
        .unwrap_or_else(|| panic!("{variable} is not set: run this by `cargo xtask test hosts`"))
        .into()
}
