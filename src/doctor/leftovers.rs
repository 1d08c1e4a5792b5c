//! Whether an enrolment token still lies in what cloud-init keeps of a host's user data.

use std::io;

use super::Check;
use crate::cloud_init;
use crate::scrub;
use crate::world::World;

/// Looks for anything that can be used as a token, plain or packed.
pub(super) fn examine(world: &World) -> Check {
    let name = "cloud-init";
    let (mut holding, mut unread) = (Vec::new(), Vec::new());
    for path in cloud_init::files(world) {
        match scrub::holds_token(&path) {
            Ok(true) => holding.push(path.display().to_string()),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => unread.push(path.display().to_string()),
        }
    }
    if !holding.is_empty() {
        return Check::warning(
            name,
            format!("an enrolment token can be read in {}", holding.join(", ")),
            "enrol, or once enrolled run it again, with the same token and --scrub-cloud-init yes; better: give the token by --token-command, so that user data holds none",
        );
    }
    if !unread.is_empty() {
        return Check::warning(
            name,
            format!("not readable: {}", unread.join(", ")),
            "run doctor as root (sudo)",
        );
    }
    Check::good(name, "no enrolment token in its files")
}
