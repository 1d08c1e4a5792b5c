//! Whether an enrolment token still lies in what cloud-init keeps of a host's user data.

use std::path::PathBuf;
use std::time::Duration;

use agent_core::check::Check;
use agent_core::cloud_init;
use agent_core::environment::Environment;
use agent_core::scrub::{self, Wanted};

/// Who asks the doctor waits for the answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks for anything that can be used as a token, plain or packed.
pub(super) fn examine(environment: &Environment) -> Check {
    let name = "cloud-init";
    let places = cloud_init::places(environment, PATIENCE);
    let report = scrub::search(&Wanted::any_suspect(), &places);
    let told = |path: &PathBuf| path.display().to_string();
    let holding: Vec<String> = report.holding.iter().map(told).collect();
    let left = report.left.iter();
    let unread: Vec<String> = left
        .map(|left| format!("{} ({})", left.path.display(), left.cause))
        .collect();
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
            format!("not searched: {}", unread.join(", ")),
            "run doctor as root (sudo); where that changes nothing, look into them by hand",
        );
    }
    Check::good(name, "no enrolment token in its files")
}
