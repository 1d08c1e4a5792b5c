//! Trees and releases that `cargo xtask test hosts` prepares before the tests.

use std::path::PathBuf;

/// Returns a bootable, read-only tree of a Debian release.
pub(crate) fn tree(release: &str) -> PathBuf {
    folder("MONSYS_TEST_TREES").join(release)
}

/// Returns the folder of the release: binaries, packages, checksums, install.sh.
pub(crate) fn dist() -> PathBuf {
    folder("MONSYS_TEST_DIST")
}

/// Returns the folder of Ansible's programs.
pub(crate) fn ansible() -> PathBuf {
    folder("MONSYS_TEST_ANSIBLE")
}

/// Returns the folders of other versions of Ansible, from the oldest that the role supports to the newest.
pub(crate) fn ansible_cores() -> Vec<PathBuf> {
    std::env::split_paths(&folder("MONSYS_TEST_CORES")).collect()
}

/// Returns the released agent for this machine.
pub(crate) fn program() -> PathBuf {
    let name = format!("monsys-agent-{}-linux-x86_64", env!("CARGO_PKG_VERSION"));
    dist().join(name)
}

/// Returns the folder of packages of the same source with version 0.0.9.
pub(crate) fn older_packages() -> PathBuf {
    folder("MONSYS_TEST_OLDER")
}

fn folder(variable: &str) -> PathBuf {
    let folder = std::env::var_os(variable);
    folder
        .unwrap_or_else(|| panic!("{variable} is not set: run this by `cargo xtask test hosts`"))
        .into()
}
