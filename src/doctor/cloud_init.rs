//! The check for an enrolment token in the copies of user data that cloud-init stores.

use std::path::PathBuf;
use std::time::Duration;

use agent_core::check::Check;
use agent_core::cloud_init;
use agent_core::environment::Environment;
use agent_core::scrub::{self, SecretMatcher};

/// The time limit of the search: an operator is waiting for the result.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// Searches for any usable token, also in compressed and encoded data.
pub(super) fn examine(environment: &Environment) -> Check {
    let name = "cloud-init";
    let places = cloud_init::places(environment, TIME_LIMIT);
    let report = scrub::search(&SecretMatcher::any_suspect(), &places);
    let display = |path: &PathBuf| path.display().to_string();
    let holding: Vec<String> = report.holding.iter().map(display).collect();
    let left = report.left.iter();
    let unread: Vec<String> = left
        .map(|left| format!("{} ({})", left.path.display(), left.cause))
        .collect();
    if !holding.is_empty() {
        return Check::warning(
            name,
            format!("an enrolment token can be read in {}", holding.join(", ")),
            "run enrol with the same token and --scrub-cloud-init yes, also on an enrolled host; better: use --token-command, so that user data contains no token",
        );
    }
    if !unread.is_empty() {
        return Check::warning(
            name,
            format!("not searched: {}", unread.join(", ")),
            "run doctor as root (sudo); if that does not help, search these files yourself",
        );
    }
    Check::good(name, "no enrolment token in its files")
}
