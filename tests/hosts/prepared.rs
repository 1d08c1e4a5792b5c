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

fn folder(variable: &str) -> PathBuf {
    let folder = std::env::var_os(variable);
    folder
        .unwrap_or_else(|| panic!("{variable} is not set: run this by `cargo xtask test hosts`"))
        .into()
}
