//! Hosts on which a deb or rpm package has put the agent: those belong to the package manager.

use super::receipt::Receipt;
use crate::error::{Error, ErrorId, Result};
use crate::world::World;

const BINARY: &str = "/usr/bin/monsys-agent";
const DPKG: &str = "/var/lib/dpkg/info/monsys-agent.list";

/// Refuses a host whose agent came as a package, and not by `install`.
///
/// # Errors
/// [`ErrorId::PackageOwned`].
pub(super) fn refuse(receipt: &Receipt, world: &World) -> Result<()> {
    if !receipt.done.is_empty() || !world.path(BINARY).exists() {
        return Ok(());
    }
    let remove = if world.path(DPKG).exists() {
        "apt-get remove monsys-agent"
    } else {
        "dnf remove monsys-agent, or zypper or rpm -e"
    };
    Err(
        Error::new(ErrorId::PackageOwned, format!("{BINARY} is there, and no receipt of `install`"))
            .mend(format!(
                "to enrol and start it: monsys-agent enrol && systemctl enable --now monsys-agent; to remove it: {remove}"
            )),
    )
}
